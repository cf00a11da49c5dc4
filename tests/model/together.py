"""Several super-steps in one transaction, handed from one to the next. See `checkpointer/step/shared.py`.

Workers of a scenario that `shares` are flows of one process. Who has waited at its barrier since before a transaction
began may go on in it: it is validated after the writes of those before it, and rolled back alone if it does not hold.
Whoever has it last commits for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.barrier import Barrier, rests_on_anything
from tests.model.database import admitted, applied
from tests.model.frames import changed, judged, keys_of, with_frame
from tests.model.world import (
    DONE,
    HANDED,
    HYPO,
    LOOKUP,
    ROOT,
    TASKS,
    WRITING,
    Frame,
    Pending,
    State,
    Tx,
    Worker,
    overlay,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    Next = Iterator[tuple[str, State]]

__all__ = ["Together"]


class Together(Barrier):
    """What a worker does with a transaction that others have worked in."""

    def waiting(self, s: State, i: int) -> tuple[tuple[int, int], ...]:
        """Who waits for this worker's commit, with the version of its thread's row."""
        if not self.scenario.shares:
            return ()
        return tuple((j, s.threads[w.flow].version) for j, w in enumerate(s.workers) if j != i and _at_barrier(w))

    def barrier(self, s: State, i: int, w: Worker, f: Frame) -> Next:
        """The next action of a commit."""
        if f.phase == HANDED:
            if s.handed is not None:
                yield from self._for_others(s, "nobody goes on in the transaction")
            return
        if s.handed is not None and f.ns == ROOT and _at_barrier(w) and self._may_go_on(s, i, w, s.handed):
            yield from self._go_on(s, i, w, f, s.handed)
        yield from super().barrier(s, i, w, f)

    def _send(self, s: State, i: int, w: Worker, f: Frame, p: Pending, again: State) -> Next:
        if f.ns == ROOT and f.tx is not None and s.handed is None and any(j not in _in(p) for j, _ in f.tx.waiting):
            members = (*p.others, p._replace(others=()))
            handed = f.tx._replace(members=members, rows=overlay(f.tx.rows, p.commit.writes))
            after = changed(s, i, with_frame(w, f._replace(phase=HANDED, tx=None)))
            if "members are told before COMMIT" in self.switches:
                after = self.committed(s, i, w, f)
            yield f"{self.name(f)} hands its transaction on", after._replace(handed=handed)
        yield from super()._send(s, i, w, f, p, again)

    def _may_go_on(self, s: State, i: int, w: Worker, tx: Tx) -> bool:
        """Whether it has waited since before the transaction began: an older one may not show what it has read."""
        waited = dict(tx.waiting).get(i) == s.threads[w.flow].version
        return waited or (i in dict(tx.waiting) and "whoever comes may go on in a transaction" in self.switches)

    def _go_on(self, s: State, i: int, w: Worker, f: Frame, tx: Tx) -> Next:
        """Validate what was read after the writes of those before, then write and commit for all."""
        mine = tx._replace(reads=keys_of(f), row_version=dict(tx.waiting)[i])
        moved = self.moved(f, tx.rows)
        if "who goes on validates nothing" in self.switches:
            moved = set()
        name = self.name(f)
        if moved:
            s = judged(s, f, moved, tx.rows)
            label = f"{name} goes on in a transaction: facts of {sorted(moved)} have moved in it"
            for told, after in self._for_others(s, label):
                if _committed(after, tx):
                    its = after.workers[i]
                    if "what drifts in a transaction stays in it" in self.switches:
                        writes, _, _ = self._applied(w, f._replace(tx=mine))
                        after = after._replace(rows=overlay(after.rows, writes))
                    yield told, self._refused(after, i, its, f, moved)
                else:
                    yield told, after
        elif self._owns(s, w, f) and not self._is_there(s, w, f):
            alone = s._replace(handed=None)
            for label, after in self._write(alone, i, w, f._replace(tx=mine, phase=WRITING)):
                yield f"{label}, in a transaction of several", after
        else:
            yield from self._for_others(s, f"{name} does not go on in the transaction")

    def _for_others(self, s: State, label: str) -> Next:
        """COMMIT what those before have left, and nothing else. It is one action: nobody waits for what comes after."""
        assert s.handed is not None
        *others, last = s.handed.members
        p = last._replace(others=tuple(others))
        rest = s._replace(handed=None)
        if admitted(s, p, serializable="snapshot isolation" not in self.switches):
            done = applied(rest, p)
            its = done.workers[last.worker]
            yield label, self.all_committed(done, last.worker, its, its.frames[0], p)
        else:
            yield f"{label}, and it meets another", self.again(rest, s.handed.members)
        if s.losses < self.scenario.losses:
            lost = self.again(rest, s.handed.members, LOOKUP)
            lost = lost._replace(pending=(*lost.pending, p._replace(heard=False)), losses=s.losses + 1)
            yield f"{label}, and nobody hears of its COMMIT", lost


def _at_barrier(w: Worker) -> bool:
    """Whether it waits to commit a super-step that rests on something, with no transaction in hand."""
    if w.pc != "run" or w.owed is not None or len(w.frames) != 1:
        return False
    (f,) = w.frames
    return f.phase == TASKS and f.tx is None and rests_on_anything(f) and all(t.state in (DONE, HYPO) for t in f.tasks)


def _in(p: Pending) -> set[int]:
    return {each.worker for each in (*p.others, p)}


def _committed(s: State, tx: Tx) -> bool:
    return all(p.ckpt in s.ckpts for p in tx.members)
