"""The protocol from the barrier on: validate, apply, COMMIT, and what to do when its answer is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.database import admitted, applied, begun, keys_locked, locked
from tests.model.frames import (
    bare,
    caller_of,
    changed,
    ended,
    in_order,
    judged,
    keys_of,
    view_of,
    with_frame,
    with_task,
)
from tests.model.tasks import Tasks
from tests.model.world import (
    DRIFTED,
    HYPO,
    LOOKUP,
    PINNED,
    ROOT,
    RUN,
    SENT,
    START,
    TASKS,
    WRITING,
    Ckpt,
    Commit,
    Frame,
    Part,
    Pending,
    Read,
    Saved,
    State,
    Task,
    Worker,
    Write,
    got,
    holds,
    overlay,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.model.world import CkptId

    Next = Iterator[tuple[str, State]]

__all__ = ["Barrier"]


class Barrier(Tasks):
    """What a worker does with a super-step that has all its results."""

    def barrier(self, s: State, i: int, w: Worker, f: Frame) -> Next:
        """The next action of a commit."""
        if self.scenario.ahead and f.ns == ROOT and f.phase == SENT and not w.frames[1:]:
            yield from self._ahead(s, i, w, f)
        if f.ns != ROOT and not self._begun_above(s, w, f):
            return
        if f.phase == SENT:
            yield from self._answered(s, i, w, f)
        elif f.phase == LOOKUP:
            yield from self._look_up(s, i, w, f)
        elif f.phase in (PINNED, WRITING) and f.tx is not None:
            yield from self._write(s, i, w, f)
        elif rests_on_anything(f):
            yield from self._pin(s, i, w, f)
        else:
            yield from self._alone(s, i, w, f)

    def _ahead(self, s: State, i: int, w: Worker, f: Frame) -> Next:
        """LangGraph starts the next super-step while this one is being committed (durability "async")."""
        program = self.scenario.flows[w.flow]
        if f.step + 1 < len(program) and program[f.step + 1][0][0][0] == "call":
            inside = self.inside(s, w, (self._id(w, f), 0), START, ())
            yield f"step {f.step + 1} task 0 enters its subgraph early", changed(s, i, inside)

    def _begun_above(self, s: State, w: Worker, f: Frame) -> bool:
        """Whether what its caller's super-step started from is committed."""
        above = f.ns[0]
        return (
            above == START
            or any((c.thread, c.ns, c.id) == (w.flow, ROOT, above) for c in s.ckpts)
            or "a subgraph commits before what is in front of it" in self.switches
        )

    def _id(self, w: Worker, f: Frame) -> CkptId:
        return f.step + 1, w.token

    def _is_there(self, s: State, w: Worker, f: Frame) -> bool:
        return any((c.thread, c.ns, c.id) == (w.flow, f.ns, self._id(w, f)) for c in s.ckpts)

    def _owns(self, s: State, w: Worker, f: Frame) -> bool:
        """The commit right: the token, and of the outermost graph the head."""
        row = s.threads[w.flow]
        if "nobody looks at the token" not in self.switches and row.token != w.token:
            return False
        return f.ns != ROOT or row.head == f.parent

    # -- a super-step that rests on nothing ------------------------------------------------------------------------

    def _alone(self, s: State, i: int, w: Worker, f: Frame) -> Next:
        """One statement. Repeated after a lost connection it finds its own checkpoint."""
        if f.phase == TASKS and f.ns != ROOT:
            f = f._replace(phase=WRITING, noted=self._noted(s, w, f, None))
            if len(w.frames[0].tasks) > 1:
                yield f"{self.name(f)} is about to be stored", changed(s, i, with_frame(w, f))
                return
        if locked(s, w.flow, shared=f.ns != ROOT):
            return
        if self._owns(s, w, f):
            stored = applied(s, self._pending(s, i, w, f, (), ()))
            yield f"{self.name(f)} is stored", self.committed(stored, i, w, f)
            if s.losses < self.scenario.losses:
                yield f"{self.name(f)} is stored, nobody hears of it", stored._replace(losses=s.losses + 1)
        elif self._is_there(s, w, f) and s.threads[w.flow].token == w.token:
            yield f"{self.name(f)} is there already", self.committed(s, i, w, f)
        else:
            yield "has lost the thread", ended(s, i, "fenced")

    # -- one that rests on reads, or stages writes ---------------------------------------------------------------------

    def _pin(self, s: State, i: int, w: Worker, f: Frame) -> Next:
        """The committing transaction: the snapshot if it is held, else a new one in which all that was read holds."""
        caller = caller_of(w, f)
        tx, moved = f.tx, set()
        if tx is None:
            tx = begun(s, w.flow)
            moved = self.moved(f, tx.rows)
            tx = tx._replace(reads=keys_of(f), waiting=self.waiting(s, i) if f.ns == ROOT else ())
        if "a commit validates nothing" in self.switches:
            moved = set()
        root = w.frames[0]
        logs = caller.logs() if caller is not None and "callers are not validated" not in self.switches else ()
        tx = tx._replace(reads=tx.reads | {read.key for log in logs for read in log})
        early = "commits below begin before they validate" in self.switches and f.ns != ROOT
        if early and f.phase == TASKS:
            yield f"{self.name(f)} begins to write", changed(s, i, with_frame(w, f._replace(phase=WRITING)))
            return
        if moved:
            label = f"{self.name(f)} pins: facts of {sorted(moved)} have moved"
            yield label, self._refused(judged(s, f, moved, tx.rows), i, w, f, moved)
        elif not all(holds(log, tx.rows, view_of(root, f.ns[1])) for log in logs):
            after = self._refused(judged(s, root, {f.ns[1]}, tx.rows), i, w, root, {f.ns[1]}, by_subgraph=True)
            yield f"{self.name(f)} pins: its caller's facts have moved", after
        elif logs and f.tasks[0].writes and self._on_uncommitted(caller):
            if f.ns[1] in root.leading:
                yield "neither of two tasks can come first", ended(s, i, "refused by name")
            else:
                yield f"{self.name(f)} rests on a sibling's writes", self.drifted(s, i, w, root, {f.ns[1]}, lead=True)
        else:
            pinned = f._replace(tx=tx, phase=WRITING if early else PINNED)
            yield f"{self.name(f)} pins to commit", changed(s, i, with_frame(w, pinned))

    def _on_uncommitted(self, caller: Task) -> bool:
        rests = any(read.after for log in caller.logs() for read in log)
        return rests and "subgraphs commit on top of a sibling" not in self.switches

    def _refused(self, s: State, i: int, w: Worker, f: Frame, moved: set[int], *, by_subgraph: bool = False) -> State:
        """A commit is not to be, and its run is told so: not if it has landed."""
        if any(self._is_there(s, w, each) for each in w.frames[-1:]):
            s = s._replace(broken="8: a super-step that is committed is said to have failed")
        return self.drifted(s, i, w, f, moved, by_subgraph=by_subgraph)

    def _write(self, s: State, i: int, w: Worker, f: Frame) -> Next:
        """Everything that is written, and COMMIT."""
        assert f.tx is not None
        caller = caller_of(w, f)
        if caller is not None and caller.state == DRIFTED and f.phase == PINNED:
            yield f"{self.name(f)} sees that its caller has drifted", changed(s, i, self.left(w))
            return
        if f.phase == PINNED and f.ns != ROOT and len(w.frames[0].tasks) > 1:
            yield f"{self.name(f)} begins to write", changed(s, i, with_frame(w, f._replace(phase=WRITING)))
            return
        writes, parts, moved = self._applied(w, f)
        if locked(s, w.flow, shared=f.ns != ROOT) or keys_locked(s, {write.key for write in writes}):
            return
        name = self.name(f)
        again = self.again(changed(s, i, with_frame(w, f._replace(tx=None, phase=TASKS))), f.tx.members)
        if s.threads[w.flow].version != f.tx.row_version:
            yield f"{name} meets another transaction (the thread's row)", again
        elif moved:
            assert not f.tx.members, "no scenario has tasks side by side in a transaction of several"
            yield f"{name}: siblings have moved facts of {sorted(moved)}", self._refused(s, i, w, f, moved)
        elif self._is_there(s, w, f) and f.ns == ROOT:
            yield f"{name} is there already", self.committed(s, i, w, f)
        elif not self._owns(s, w, f):
            yield f"{name}: has lost the thread", ended(s, i, "fenced")
        elif "writes and checkpoint are two transactions" in self.switches and writes:
            yield f"{name} commits its writes", self._apart(s, i, w, f, writes)
        else:
            yield from self._send(s, i, w, f, self._pending(s, i, w, f, writes, parts), again)

    def _applied(self, w: Worker, f: Frame) -> tuple[tuple[Write, ...], tuple[Part, ...], set[int]]:
        """What the tasks stage, in their order; and those that could not have run after the ones before them."""
        assert f.tx is not None
        writes: tuple[Write, ...] = ()
        parts: tuple[Part, ...] = ()
        caller = caller_of(w, f)
        moved: set[int] = set()
        order = sorted(range(len(f.tasks))) if "who leads makes no difference" in self.switches else in_order(f)
        for n in order:
            t = f.tasks[n]
            rows = overlay(f.tx.rows, writes)
            stale = any(rows[read.key] != read.value for log in t.logs() for read in log)
            if writes and stale and "siblings are not validated" not in self.switches:
                moved.add(n)
                continue
            writes += t.writes
            callers = (*f.basis, *caller.seen) if caller is not None else f.basis
            shown = t.answer.facts if t.answer is not None else ()
            parts += (Part(n, t.seen, t.staged, t.by, t.state == HYPO, t.answer, shown, callers),)
        return writes, parts, moved

    def _pending(
        self, s: State, i: int, w: Worker, f: Frame, writes: tuple[Write, ...], parts: tuple[Part, ...]
    ) -> Pending:
        ckpt_id, tx = self._id(w, f), f.tx or begun(s, w.flow)
        stale = s.threads[w.flow].token != w.token
        commit = Commit(w.flow, f.ns, ckpt_id, tx.start, tx.rows, tx.reads, writes, parts, stale)
        if tx.waiting:
            commit = commit._replace(together=(tx.start, tx.waiting))
        basis = () if writes else f.basis
        ckpt = Ckpt(w.flow, f.ns, ckpt_id, f.parent, writes, basis)
        if rests_on_anything(f):
            f = f._replace(noted=self._noted(s, w, f, overlay(tx.rows, writes) if writes else None))
        return Pending(i, f.ns != ROOT, commit, ckpt, f.noted, others=tx.members)

    def _noted(self, s: State, w: Worker, f: Frame, rows: tuple[int, ...] | None) -> tuple[tuple[object, Saved], ...]:
        """What is to be stored with a checkpoint of a subgraph: what its caller has read, and is not stored yet."""
        caller = caller_of(w, f)
        if caller is None or "callers are not noted" in self.switches:
            return ()
        t = self._moved_on(caller, rows)
        reads = tuple(read for log in t.logs() for read in log)
        if not reads or reads == t.noted:
            return ()
        key = (w.flow, ROOT, w.frames[0].parent, f.ns[1])
        before = got(s.saved, key)
        kind = "asked" if t.shown is not None else "calls"
        return ((key, Saved(kind, reads, (), t.by, answer=before.answer if before else None)),)

    def _moved_on(self, t: Task, rows: tuple[int, ...] | None) -> Task:
        """A caller, with what its reads say once the writes of its subgraph are applied."""
        if rows is None or "a subgraph's writes count as changes from outside" in self.switches:
            return t

        def now(log: tuple[Read, ...] | None) -> tuple[Read, ...] | None:
            return log and tuple(read if read.after else read._replace(value=rows[read.key]) for read in log)

        return t._replace(shown=now(t.shown), built_on=now(t.built_on), reads=now(t.reads) or ())

    def _apart(self, s: State, i: int, w: Worker, f: Frame, writes: tuple[Write, ...]) -> State:
        """A switch: the checkpoint is to follow."""
        commit = Commit(w.flow, f.ns, None, len(s.history), s.rows, frozenset(), writes)
        for n, t in enumerate(f.tasks):
            f = with_task(f, n, t._replace(writes=(), reads=()))
        s = s._replace(rows=overlay(s.rows, writes), history=(*s.history, commit))
        return changed(s, i, with_frame(w, f._replace(tx=None, phase=TASKS)))

    def _send(self, s: State, i: int, w: Worker, f: Frame, p: Pending, again: State) -> Next:
        name = self.name(f)
        if s.aborts < self.scenario.aborts:
            yield f"{name} is aborted for no reason", again._replace(aborts=s.aborts + 1)
        if self._is_slow:
            sent = changed(s, i, with_frame(w, f._replace(phase=SENT)))
            yield f"{name} sends COMMIT", sent._replace(pending=(*s.pending, p))
        elif admitted(s, p, serializable="snapshot isolation" not in self.switches):
            yield f"{name} commits", self.all_committed(applied(s, p), i, w, f, p)
        else:
            yield f"{name} meets another transaction", again

    def all_committed(self, s: State, i: int, w: Worker, f: Frame, p: Pending) -> State:
        """The runs of all super-steps that this COMMIT was for go on."""
        s = self.committed(s, i, w, f)
        for other in p.others:
            its = s.workers[other.worker]
            s = self.committed(s, other.worker, its, its.frames[0])
        return s

    def again(self, s: State, others: Iterable[Pending], phase: str = TASKS) -> State:
        """These super-steps, which had handed their transaction on, are to be committed anew, or looked up."""
        for other in others:
            its = s.workers[other.worker]
            s = changed(s, other.worker, with_frame(its, its.frames[0]._replace(tx=None, phase=phase)))
        return s

    def waiting(self, s: State, i: int) -> tuple[tuple[int, int], ...]:
        """See `together`."""
        raise NotImplementedError

    @property
    def _is_slow(self) -> bool:
        return bool(self.scenario.losses or self.scenario.crashes or self.scenario.slow)

    def _answered(self, s: State, i: int, w: Worker, f: Frame) -> Next:
        """COMMIT is under way: it is answered, or the connection is lost."""
        (p,) = [each for each in s.pending if each.worker == i and each.heard]
        rest = s._replace(pending=tuple(each for each in s.pending if each is not p))
        if admitted(s, p, serializable="snapshot isolation" not in self.switches):
            yield f"{self.name(f)} is committed", self.all_committed(applied(rest, p), i, w, f, p)
        else:
            again = changed(rest, i, with_frame(w, f._replace(tx=None, phase=TASKS)))
            yield f"{self.name(f)} meets another transaction", self.again(again, p.others)
        if s.losses < self.scenario.losses:
            lost = self.again(rest, p.others, LOOKUP)
            lost = lost._replace(pending=(*rest.pending, p._replace(heard=False)), losses=s.losses + 1)
            name = f"{self.name(f)} loses the connection during COMMIT"
            if "a lost COMMIT is repeated without a look-up" in self.switches:
                yield name, changed(lost, i, with_frame(w, f._replace(tx=None, phase=TASKS)))
            elif "a lost COMMIT is taken for done" in self.switches:
                yield name, self.committed(lost, i, w, f)
            else:
                yield name, changed(lost, i, with_frame(w, f._replace(phase=LOOKUP)))

    def _look_up(self, s: State, i: int, w: Worker, f: Frame) -> Next:
        """Whether the checkpoint is there; asked when the server has ended what holds the thread's row."""
        if locked(s, w.flow) and "the look-up does not wait" not in self.switches:
            return
        if self._is_there(s, w, f):
            yield f"{self.name(f)} is found", self.committed(s, i, w, f)
        else:
            again = f._replace(tx=None, phase=TASKS)
            yield f"{self.name(f)} is not found", changed(s, i, with_frame(w, again))

    # -- after it ------------------------------------------------------------------------------------------------------

    def committed(self, s: State, i: int, w: Worker, f: Frame) -> State:
        """The run goes on from its checkpoint."""
        ckpt_id = self._id(w, f)
        if not self._is_there(s, w, f):
            s = s._replace(broken="8: a super-step is taken for committed, and is not")
        if f.ns == ROOT:
            ahead, w = w.frames[1:], self.at(s, w, ckpt_id)
            if ahead and w.frames:
                root = with_task(w.frames[0], 0, w.frames[0].tasks[0]._replace(state=RUN))
                w = w._replace(frames=(root, *ahead))
            return changed(s, i, w)
        writes = tuple(write for t in f.tasks for write in t.writes)
        root, n, caller = w.frames[0], f.ns[1], caller_of(w, f)
        if caller is None or caller.state == DRIFTED:
            return changed(s, i, w._replace(frames=(root,)))
        t = caller
        if writes:
            assert f.tx is not None
            t = self._moved_on(t, overlay(f.tx.rows, writes))
            t = t._replace(seen=own_writes_seen(t.seen, writes))
            root = root._replace(leading=root.leading | {n}, tx=None)
        t = t._replace(noted=tuple(read for log in t.logs() for read in log))
        w = w._replace(frames=(with_task(root, n, t),))
        (subgraph,) = [op for op in map(bare, self.spec(w, root, n)) if op[0] == "call"]
        if ckpt_id[0] == len(subgraph[1]):
            return self.went_on(s, i, w, w.frames[0], n, t)
        return changed(s, i, self.inside(s, w, f.ns, ckpt_id, () if writes else f.basis))


def rests_on_anything(f: Frame) -> bool:
    """Whether its commit has something to validate or to apply."""
    return any(t.logs() or t.writes for t in f.tasks)


def own_writes_seen(seen: tuple[Read, ...], writes: tuple[Write, ...]) -> tuple[Read, ...]:
    """For the invariants: what a caller was shown, with what its own subgraph has written since."""
    new = {write.key: write.value for write in writes}
    return tuple(read if read.after else read._replace(value=new.get(read.key, read.value)) for read in seen)
