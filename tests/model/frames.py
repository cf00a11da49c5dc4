"""Looking at frames and workers, and replacing parts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.world import HYPO, ROOT, Frame, Read, State, Task, Worker, Write, holds

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.model.scenarios import Op


def changed(s: State, i: int, w: Worker) -> State:
    """The state with this worker."""
    return s._replace(workers=(*s.workers[:i], w, *s.workers[i + 1 :]))


def ended(s: State, i: int, pc: str) -> State:
    """The run of a worker is over: nothing of its memory counts any more."""
    return changed(s, i, Worker(s.workers[i].flow, pc))


def with_frame(w: Worker, f: Frame) -> Worker:
    """The worker with this frame in place of the one of its level."""
    return w._replace(frames=(f, *w.frames[1:]) if f.ns == ROOT else (w.frames[0], f))


def with_task(f: Frame, n: int, t: Task) -> Frame:
    """The frame with this task."""
    return f._replace(tasks=(*f.tasks[:n], t, *f.tasks[n + 1 :]))


def caller_of(w: Worker, f: Frame) -> Task | None:
    """The task that runs a subgraph. None yet if the subgraph has begun before the commit in front of its caller."""
    root = w.frames[0]
    return root.tasks[f.ns[1]] if f.ns != ROOT and f.ns[0] == root.parent else None


def writes_before(f: Frame, n: int) -> tuple[Write, ...]:
    """What saved results of tasks before this one stage: it reads on top of that."""
    before = [m for m in in_order(f) if f.tasks[m].state == HYPO and place(f, m) < place(f, n)]
    return tuple(write for m in before for write in f.tasks[m].writes)


def place(f: Frame, n: int) -> tuple[bool, int]:
    """Tasks that lead come first."""
    return n not in f.leading, n


def in_order(f: Frame) -> list[int]:
    """The tasks in the order that the super-step has the effect of."""
    return sorted(range(len(f.tasks)), key=lambda n: place(f, n))


def view_of(f: Frame, n: int) -> tuple[Write, ...]:
    """What the reads of a task marked `after` were made on top of."""
    view = f.tasks[n].view
    return writes_before(f, n) if view is None else view


def bare(op: Op) -> Op:
    """An operation without its condition."""
    return op[1] if op[0] == "if any" else op


def is_writing(f: Frame) -> bool:
    """Whether its commit is writing (`Run.stores_below`)."""
    return f.phase in ("writing", "sent", "look up")


def judged(s: State, f: Frame, moved: Collection[int], rows: tuple[int, ...]) -> State:
    """For the invariants: a task must not run again when what it was shown holds, its own subgraphs' writes apart."""
    for n in moved:
        t = f.tasks[n]
        if t.seen and not t.shown and not t.built_on and holds(t.seen, rows, view_of(f, n)):
            return s._replace(broken="4: a task is to run again although its facts hold")
    return s


def keys_of(f: Frame) -> frozenset[int]:
    """All keys that its tasks have read."""
    return frozenset(read.key for t in f.tasks for log in t.logs() for read in log)


def resting(t: Task) -> tuple[Read, ...]:
    """What a result rests on: what it has read, and what its subgraphs were built on before."""
    return tuple(dict.fromkeys((*(t.built_on or ()), *t.reads)))
