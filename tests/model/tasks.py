"""The protocol up to the barrier: taking a thread, running tasks, storing results, taking them back.

One action is one atomic statement of the server, with what the process does before its next one. Replaying a read log
in one snapshot is one action: nobody can tell in how many statements it is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.database import begun, locked
from tests.model.frames import (
    bare,
    caller_of,
    changed,
    ended,
    judged,
    keys_of,
    resting,
    view_of,
    with_frame,
    with_task,
    writes_before,
)
from tests.model.results import Results
from tests.model.world import (
    ASKED,
    DONE,
    DRIFTED,
    HYPO,
    KEYS,
    ROOT,
    RUN,
    START,
    STOPPED,
    Commit,
    Frame,
    Read,
    Saved,
    State,
    Task,
    Thread,
    Worker,
    Write,
    dropped,
    got,
    holds,
    overlay,
    put,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.scenarios import Spec
    from tests.model.world import CkptId, Ns

    Next = Iterator[tuple[str, State]]

__all__ = ["Tasks"]


class Tasks(Results):
    """What a worker does until a super-step has all its results."""

    # -- taking a thread -------------------------------------------------------------------------------------------

    def claim(self, s: State, i: int, w: Worker) -> Next:
        """Raise the fencing token, unless another process runs the thread and is not to be ended.

        After a conflict it is raised only if it is the run's own still.
        """
        if locked(s, w.flow):
            return
        row = s.threads[w.flow]
        if w.tries and row.token != w.token:
            if "a thread is taken back" not in self.switches:
                yield "has lost the thread between two attempts", ended(s, i, "fenced")
                return
            s = s._replace(broken="7: a run takes back a thread that a later one has taken")
        other = s.workers[row.owner].pc if row.owner not in (-1, i) else "done"
        if busy := other not in ("done", "dead", "fenced", "asking"):
            yield "is told that the thread is busy", ended(s, i, "fenced")
        if busy and not self.scenario.takeover:
            return
        if w.tries >= self.scenario.tries:
            yield "gives up", ended(s, i, "gave up")
        else:
            row = Thread(row.token + 1, row.head, row.version + 1, i)
            threads = (*s.threads[: w.flow], row, *s.threads[w.flow + 1 :])
            w = w._replace(pc="load", token=row.token, head=row.head, tries=w.tries + 1)
            yield f"claims (token {row.token})", changed(s._replace(threads=threads), i, w)

    def load(self, s: State, i: int, w: Worker) -> Next:
        """Load the head, with what earlier attempts have left: hypotheses."""
        if s.threads[w.flow].head != w.head:
            if "any head is gone on from" not in self.switches:
                yield "has lost the thread before it has loaded it", ended(s, i, "fenced")
                return
            s = s._replace(broken="7: a run goes on from what a later one has stored")
        given = w.given
        w = self.at(s, w, s.threads[w.flow].head)
        if given is not None and w.pc == "run":
            w = w._replace(pc="answer", given=given)
        yield f"loads {w.head}", changed(s, i, w)

    def answer(self, s: State, i: int, w: Worker) -> Next:
        """Store a human's answer, for whoever asks first."""
        assert w.given is not None
        if self.may_store(s, w):
            yield (
                "stores the answer",
                changed(s._replace(answers=put(s.answers, w.flow, w.given)), i, w._replace(pc="run")),
            )
        elif not locked(s, w.flow, shared=True):
            yield "has lost the thread", ended(s, i, "fenced")

    def at(self, s: State, w: Worker, head: CkptId) -> Worker:
        """The worker with the super-step that starts from this checkpoint, or at its end."""
        program = self.scenario.flows[w.flow]
        if head[0] == len(program):
            return Worker(w.flow, "done")
        f = Frame(ROOT, head, (), leading=got(s.leading, (w.flow, head), frozenset()))
        tasks = (self.loaded(s, w, f, n, spec) for n, spec in enumerate(program[head[0]]))
        f = f._replace(tasks=tuple(tasks))
        return w._replace(pc="run", head=head, frames=(f,), given=got(s.answers, w.flow))

    def loaded(self, s: State, w: Worker, f: Frame, n: int, spec: Spec) -> Task:
        """A task with what is stored for it."""
        saved: Saved | None = got(s.saved, (w.flow, f.ns, f.parent, n))
        task = self.advanced(Task((w.token, 1)), spec, f.basis)
        if saved is None:
            return task
        if saved.kind == "asked":
            return task._replace(shown=saved.reads, answer=saved.answer, was_open=True)
        if saved.kind == "calls":
            return task._replace(built_on=saved.reads)
        return task._replace(
            state=HYPO, by=saved.by, reads=saved.reads, writes=saved.writes, kept=True, seen=saved.seen,
            staged=saved.staged, answer=saved.answer, shown=saved.reads if saved.answer else None,
        )  # fmt: skip

    # -- tasks -----------------------------------------------------------------------------------------------------

    def advanced(self, t: Task, spec: Spec, basis: tuple[Read, ...] = ()) -> Task:
        """The task, with all done that needs nobody else."""
        while t.at < len(spec):
            op = spec[t.at]
            if op[0] == "if any":
                if any(read.value for read in t.seen):
                    op = op[1]
                else:
                    t = t._replace(at=t.at + 1)
                    continue
            if op[0] != "stage":
                return t
            write = Write(op[1], sum(read.value for read in (*basis, *t.seen)) + op[2], t.by)
            t = t._replace(at=t.at + 1, writes=(*t.writes, write), staged=(*t.staged, write))
        return t._replace(state=DONE)

    def went_on(self, s: State, i: int, w: Worker, f: Frame, n: int, t: Task) -> State:
        """The state in which a task has done what was next."""
        before = len(t.staged)
        t = self.advanced(t._replace(at=t.at + 1, state=RUN), self.spec(w, f, n), f.basis)
        s = changed(s, i, with_frame(w, with_task(f, n, t)))
        if "staged writes are applied at once" in self.switches and len(t.staged) > before:
            early = Commit(w.flow, f.ns, None, len(s.history), s.rows, frozenset(), t.staged[before:])
            s = s._replace(rows=overlay(s.rows, early.writes), history=(*s.history, early))
        return s

    def tasks(self, s: State, i: int, w: Worker, f: Frame) -> Next:
        """Everything that can happen in a super-step whose commit has not begun."""
        calling = w.frames[1].ns[1] if f.ns == ROOT and w.frames[1:] else None
        running = [n for n, t in enumerate(f.tasks) if t.state in ("new", RUN)]
        for n in running:
            if n != calling:
                yield from self._task(s, i, w, f, n)
        if f.tx is not None and self.scenario.releases:
            yield f"{self.name(f)} gives its snapshot back", changed(s, i, with_frame(w, f._replace(tx=None)))
        unkept = [n for n, t in enumerate(f.tasks) if t.state == DONE and not t.kept]
        if self.scenario.flushes and unkept:
            yield from self.store(s, i, w, f, unkept)
        if running or (calling is not None and caller_of(w, w.frames[1]) is not None):
            return
        states = {t.state for t in f.tasks}
        if states & {DRIFTED, STOPPED}:
            yield from self._end(s, i, w, f, unkept, Worker(w.flow, token=w.token, tries=w.tries), "ends in a conflict")
        elif ASKED in states:
            yield from self._end(s, i, w, f, unkept, Worker(w.flow, "asking"), "ends with a question")
        else:
            yield from self.barrier(s, i, w, f)

    def _end(self, s: State, i: int, w: Worker, f: Frame, unkept: list[int], then: Worker, how: str) -> Next:
        """The run ends; results that are not stored yet are."""
        if not unkept:
            yield how, changed(s, i, then)
        elif self.may_store(s, w):
            yield f"stores results and {how}", changed(self.saved(s, w, f, unkept), i, then)
        elif not locked(s, w.flow, shared=True):
            yield "has lost the thread", ended(s, i, "fenced")

    def _task(self, s: State, i: int, w: Worker, f: Frame, n: int) -> Next:
        t, spec = f.tasks[n], self.spec(w, f, n)
        op = bare(spec[t.at])
        who = f"{self.name(f)} task {n}"
        if t.paying:
            yield from self._store_answer(s, i, w, f, n)
            if "answers are used before they are stored" not in self.switches:
                return
        if op[0] == "read":
            yield from self._read(s, i, w, f, n, op[1], who)
        elif op[0] == "model":
            yield from self._model(s, i, w, f, n, who)
        elif op[0] == "ask":
            yield from self._ask(s, i, w, f, n, who)
        else:
            yield from self._call(s, i, w, f, n, op[1], who)
        if s.failures < self.scenario.failures and t.at and f.ns == ROOT:
            again = Task((t.by[0], t.by[1] + 1), shown=t.shown, built_on=t.built_on)
            if "writes of a failed execution are kept" in self.switches:
                again = again._replace(writes=t.writes)
            again = self.advanced(again, spec)
            failed = s._replace(failures=s.failures + 1)
            yield f"{who} fails, and is tried again", changed(failed, i, with_frame(w, with_task(f, n, again)))

    def _read(self, s: State, i: int, w: Worker, f: Frame, n: int, key: int, who: str) -> Next:
        """In the snapshot of the super-step; if that was given back, in a new one in which the whole log holds."""
        tx, t = f.tx, f.tasks[n]
        if tx is None:
            tx = begun(s, w.flow)
            moved = set() if "a new snapshot is not validated" in self.switches else self.moved(f, tx.rows)
            if moved:
                label = f"{who} pins: facts of {sorted(moved)} have moved"
                yield label, self.drifted(judged(s, f, moved, tx.rows), i, w, f, moved)
                return
            tx = tx._replace(reads=keys_of(f))
        view = writes_before(f, n) if t.view is None else t.view
        read = Read(key, overlay(tx.rows, view)[key], bool(view))
        t = t._replace(view=view, reads=(*t.reads, read), seen=(*t.seen, read))
        f = f._replace(tx=tx._replace(reads=tx.reads | {key}) if self.scenario.holds else None)
        yield f"{who} reads {KEYS[key]} = {read.value}", self.went_on(s, i, w, f, n, t)

    def moved(self, f: Frame, rows: tuple[int, ...]) -> set[int]:
        """The tasks whose logs say something else in these rows."""
        trusted = "hypotheses count as they are" in self.switches
        return {
            n
            for n, t in enumerate(f.tasks)
            if not (trusted and t.state == HYPO) and not all(holds(log, rows, view_of(f, n)) for log in self._logs(t))
        }

    def _logs(self, t: Task) -> tuple[tuple[Read, ...], ...]:
        if "what a human was shown is not validated" in self.switches:
            t = t._replace(shown=None)
        return t.logs()

    def _model(self, s: State, i: int, w: Worker, f: Frame, n: int, who: str) -> Next:
        """Ask a model: the memo first, which tells whether the run has the thread. An answer is stored, then given."""
        if locked(s, w.flow, shared=True):
            return
        if s.threads[w.flow].token != w.token:
            yield "has lost the thread", ended(s, i, "fenced")
            return
        t, key = f.tasks[n], self._request(w, f, n)
        if key in s.memo and "answers are not remembered" not in self.switches:
            yield f"{who} is given the answer it had", self.went_on(s, i, w, f, n, t)
            return
        if key in s.delivered:
            s = s._replace(broken="5: an answer that a node was given is paid again")
        t = t._replace(paying=True, state=RUN)
        if "answers are used before they are stored" in self.switches:
            s = s._replace(delivered=s.delivered | {key})
            yield f"{who} pays, and goes on", self.went_on(s, i, w, f, n, t)
        else:
            yield f"{who} pays", changed(s, i, with_frame(w, with_task(f, n, t)))

    def _request(self, w: Worker, f: Frame, n: int) -> tuple[object, ...]:
        t = f.tasks[n]
        return w.flow, f.ns, f.parent, n, t.by[1], tuple(read.value for read in t.seen)

    def _store_answer(self, s: State, i: int, w: Worker, f: Frame, n: int) -> Next:
        if self.may_store(s, w):
            key, t = self._request(w, f, n), f.tasks[n]._replace(paying=False)
            s = s._replace(memo=s.memo | {key}, delivered=s.delivered | {key})
            if "answers are used before they are stored" in self.switches:
                yield "stores an answer late", changed(s, i, with_frame(w, with_task(f, n, t)))
            else:
                yield "stores an answer", self.went_on(s, i, w, f, n, t)
        elif not locked(s, w.flow, shared=True):
            yield "has lost the thread", ended(s, i, "fenced")

    def _ask(self, s: State, i: int, w: Worker, f: Frame, n: int, who: str) -> Next:
        """Ask a human, or take the answer that has come. It is for a question that was open, and for no other."""
        t = f.tasks[n]
        if t.answer is not None:
            yield f"{who} has its answer", self.went_on(s, i, w, f, n, t)
        elif not self.may_store(s, w):
            if not locked(s, w.flow, shared=True):
                yield "has lost the thread", ended(s, i, "fenced")
        elif w.given is None:
            saved = Saved("asked", resting(t), (), t.by, t.seen)
            s = s._replace(saved=put(s.saved, (w.flow, f.ns, f.parent, n), saved))
            yield f"{who} asks", changed(s, i, with_frame(w, with_task(f, n, t._replace(state=ASKED, kept=True))))
        elif t.was_open or "an answer is for whoever asks" in self.switches:
            here = (w.flow, f.ns, f.parent, n)
            saved = got(s.saved, here, Saved("asked", resting(t), (), t.by, t.seen))._replace(answer=w.given)
            s = s._replace(saved=put(s.saved, here, saved), answers=dropped(s.answers, w.flow))
            yield (
                f"{who} takes the answer",
                self.went_on(s, i, w._replace(given=None), f, n, t._replace(answer=w.given)),
            )
        else:
            refused = self.drifted(s, i, w, f, {n}, asked={n})
            yield (
                f"{who} would take an answer not its own",
                changed(refused, i, refused.workers[i]._replace(given=None)),
            )

    def _call(self, s: State, i: int, w: Worker, f: Frame, n: int, steps: tuple[Spec, ...], who: str) -> Next:
        """Enter a subgraph, or go on in it from its latest checkpoint."""
        ns = (f.parent, n)
        head = next((c for c in reversed(s.ckpts) if (c.thread, c.ns) == (w.flow, ns)), None)
        parent, basis = (head.id, head.basis) if head is not None else (START, f.tasks[n].seen)
        if parent[0] == len(steps):
            yield f"{who} has the result of its subgraph", self.went_on(s, i, w, f, n, f.tasks[n])
            return
        w = with_frame(w, with_task(f, n, f.tasks[n]._replace(state=RUN)))
        yield f"{who} enters its subgraph", changed(s, i, self.inside(s, w, ns, parent, basis))

    def inside(self, s: State, w: Worker, ns: Ns, parent: CkptId, basis: tuple[Read, ...]) -> Worker:
        """The worker with a super-step of a subgraph."""
        f = Frame(ns, parent, (), basis=basis)
        t = self.loaded(s, w, f, 0, self.spec(w, f, 0))
        return w._replace(frames=(w.frames[0], f._replace(tasks=(t,))))

    def barrier(self, s: State, i: int, w: Worker, f: Frame) -> Next:
        """See `barrier`."""
        raise NotImplementedError
