"""Results of tasks: stored, taken back when facts have moved, and with them what subgraphs have stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.database import locked
from tests.model.frames import bare, caller_of, changed, ended, is_writing, resting, with_frame, with_task
from tests.model.world import DRIFTED, ROOT, STOPPED, TASKS, Frame, Owed, Saved, State, Task, Worker, dropped, got, put

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.model.scenarios import Scenario, Spec

    Next = Iterator[tuple[str, State]]

__all__ = ["Results"]


class Results:
    """What a worker does with results: see the module."""

    scenario: Scenario
    switches: frozenset[str]

    def spec(self, w: Worker, f: Frame, n: int) -> Spec:
        """What a task does."""
        program = self.scenario.flows[w.flow]
        if f.ns == ROOT:
            return program[f.step][n]
        (start, _), caller = f.ns
        (subgraph,) = [op for op in map(bare, program[start][caller]) if op[0] == "call"]
        return subgraph[1][f.step]

    def name(self, f: Frame) -> str:
        """For labels."""
        return f"step {f.step}" if f.ns == ROOT else f"subgraph step {f.step}"

    def may_store(self, s: State, w: Worker) -> bool:
        """Whether a statement finds the run's token in the thread's row. It waits for a COMMIT that holds the row."""
        return not locked(s, w.flow, shared=True) and s.threads[w.flow].token == w.token

    def store(self, s: State, i: int, w: Worker, f: Frame, unkept: list[int]) -> Next:
        """Store results that are there, before the commit."""
        if not self.may_store(s, w):
            if not locked(s, w.flow, shared=True):
                yield "has lost the thread", ended(s, i, "fenced")
            return
        if "results are stored before their effects" in self.switches:
            half = [n for n in unkept if got(s.saved, (w.flow, f.ns, f.parent, n)) is None]
            if half:
                yield f"{self.name(f)} stores half", self.saved(s, w, f, half, effects=False)
                return
        for n in unkept:
            f = with_task(f, n, f.tasks[n]._replace(kept=True))
        yield f"{self.name(f)} stores results of {unkept}", changed(self.saved(s, w, f, unkept), i, with_frame(w, f))

    def saved(self, s: State, w: Worker, f: Frame, which: Collection[int], *, effects: bool = True) -> State:
        for n in which:
            t = f.tasks[n]
            reads, writes = (resting(t), t.writes) if effects else ((), ())
            saved = Saved("finished", reads, writes, t.by, t.seen, t.staged, t.answer)
            s = s._replace(saved=put(s.saved, (w.flow, f.ns, f.parent, n), saved))
        return s

    def drifted(
        self,
        s: State,
        i: int,
        w: Worker,
        f: Frame,
        moved: Collection[int],
        asked: Collection[int] = (),
        *,
        lead: bool = False,
        by_subgraph: bool = False,
    ) -> State:
        """These tasks have to run again. In memory at once; what they have left in the database is to be taken back.

        A subgraph of theirs ends: it would be told at its next call, or when its commit begins to write. One that is
        writing goes on.
        """
        asked = {n for n in moved if f.tasks[n].shown is not None or f.tasks[n].answer is not None} | set(asked)
        given = frozenset(filter(None, (f.tasks[n].answer or w.given for n in asked)))
        for n in moved:
            f = with_task(f, n, Task(f.tasks[n].by, DRIFTED))
        f = f._replace(tx=None, phase=TASKS, leading=f.leading | set(moved) if lead else f.leading)
        owed = Owed(f.ns, f.parent, frozenset(moved), frozenset(asked), f.leading, given, by_subgraph)
        w = with_frame(w, f)._replace(owed=owed)
        if w.frames[1:] and not is_writing(w.frames[1]):
            caller = caller_of(w, w.frames[1])
            if f.ns != ROOT or caller is None or caller.state == DRIFTED:
                w = self.left(w)
        return changed(s, i, w)

    def left(self, w: Worker) -> Worker:
        """The worker without the subgraph it was in, which ended in a conflict: its caller has no result."""
        root, t = w.frames[0], caller_of(w, w.frames[1])
        if t is not None and t.state != DRIFTED:
            root = with_task(root, w.frames[1].ns[1], t._replace(state=STOPPED))
        return w._replace(frames=(root,))

    def discard(self, s: State, i: int, w: Worker, owed: Owed) -> Next:
        """Take back what drifted tasks have left, and forget what their subgraphs have stored; wait for those first."""
        below = any(owed.ns == ROOT and f.ns[1] in owed.tasks and is_writing(f) for f in w.frames[1:])
        if locked(s, w.flow, shared=True) or (below and "nobody waits for commits below" not in self.switches):
            return
        if owed.forget:
            yield "forgets subgraphs", changed(self._forgotten(s, w, owed), i, w._replace(owed=None))
            return
        if not self.may_store(s, w):
            yield "has lost the thread", ended(s, i, "fenced")
            return
        here = {(w.flow, owed.ns, owed.parent, n) for n in owed.tasks}
        s = s._replace(
            saved=tuple(row for row in s.saved if row[0] not in here), withdrawn=s.withdrawn | owed.withdrawn
        )
        if owed.asked and "an answer outlives its question" not in self.switches:
            s = s._replace(answers=dropped(s.answers, w.flow))
        if owed.leading and "who leads is forgotten" not in self.switches and owed.ns == ROOT:
            s = s._replace(leading=put(s.leading, (w.flow, owed.parent), owed.leading))
        calls = any(op[0] == "call" for n in owed.tasks for op in map(bare, self.spec(w, w.frames[0], n)))
        if owed.ns == ROOT and calls and "results and subgraphs are taken back one after the other" in self.switches:
            yield f"discards {sorted(owed.tasks)}", changed(s, i, w._replace(owed=owed._replace(forget=True)))
        else:
            yield f"discards {sorted(owed.tasks)}", changed(self._forgotten(s, w, owed), i, w._replace(owed=None))

    def _forgotten(self, s: State, w: Worker, owed: Owed) -> State:
        if owed.ns != ROOT or "subgraphs are not forgotten" in self.switches:
            return s
        for n in owed.tasks:
            ns = (owed.parent, n)
            wrote = any(c.writes for c in s.ckpts if (c.thread, c.ns) == (w.flow, ns))
            if wrote and "subgraphs that have written are forgotten" not in self.switches:
                continue
            s = s._replace(
                ckpts=tuple(c for c in s.ckpts if (c.thread, c.ns) != (w.flow, ns)),
                saved=tuple(row for row in s.saved if row[0][:2] != (w.flow, ns)),
            )
        return s
