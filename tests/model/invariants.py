"""DESIGN's invariants, by number: what is wrong with a state, if anything.

What a commit rests on is told by what executions were really shown (`seen`) and have really staged, kept beside what
the protocol itself knows of it. So a protocol that loses its log does not lose the evidence.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from tests.model.world import DRIFTED, KEYS, ROOT, START, STOPPED, Ckpt, overlay

if TYPE_CHECKING:
    from tests.model.world import Commit, Frame, Part, Read, Rows, State

__all__ = ["broken"]

_INITIAL: Rows = (0,) * len(KEYS)


def broken(s: State) -> str | None:
    """The first invariant that does not hold, with what is wrong."""
    return (
        s.broken
        or _of_commits(s.history)
        or _of_checkpoints(s.history, s.ckpts, tuple(thread.head for thread in s.threads))
        or _of_answers(s)
        or next((found for w in s.workers for f in w.frames if (found := _one_snapshot(s.history, f))), None)
        or ("6: a run gives up, although few have met it" if any(w.pc == "gave up" for w in s.workers) else None)
        or (None if s.rows == _versions(s.history)[-1] else "2: rows are not what was committed")
    )


# -- 1 ---------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=200_000)
def _versions(history: tuple[Commit, ...]) -> tuple[Rows, ...]:
    """All states that the shared keys have been in."""
    versions = [_INITIAL]
    for commit in history:
        versions.append(overlay(versions[-1], commit.writes))
    return tuple(versions)


@lru_cache(maxsize=200_000)
def _one_snapshot(history: tuple[Commit, ...], f: Frame) -> str | None:
    """1: what the tasks of a super-step have seen is one state of the database (with siblings' writes on top)."""
    live = [t for t in f.tasks if t.state not in (DRIFTED, STOPPED) and t.seen]

    def fits(rows: Rows) -> bool:
        return all(
            (overlay(rows, t.view or ()) if read.after else rows)[read.key] == read.value
            for t in live
            for read in t.seen
            if not read.after or t.view is not None  # what a saved result was read on top of is not remembered
        )

    if any(fits(rows) for rows in _versions(history)):
        return None
    return f"1: the tasks of step {f.step} see {[list(t.seen) for t in live]}, which never was one state"


# -- 2, 3, 4, 7, 8, 9, 11, 12, 13, 16 ----------------------------------------------------------------------------------


@lru_cache(maxsize=200_000)
def _of_commits(history: tuple[Commit, ...]) -> str | None:
    if not history:
        return None
    return _of_commits(history[:-1]) or _of_commit(history[-1]) or _once(history) or _serial(history)


def _of_commit(commit: Commit) -> str | None:
    """What is wrong with the super-step that a commit is of, by itself."""
    if commit.thread < 0:
        return None
    if commit.ckpt is None:
        return "2: something staged is visible without the checkpoint of its super-step"
    if commit.stale:
        return "7: a run that has lost its thread commits"
    if commit.writes != tuple(write for part in commit.parts for write in part.staged):
        return "12: what is applied is not what the executions have staged whose results are committed"
    rows = commit.base
    for number, part in enumerate(commit.parts):
        if found := _of_part(commit, part, rows, first=number == 0):
            return found
        rows = overlay(rows, part.staged)
    return None


def _of_part(commit: Commit, part: Part, rows: Rows, *, first: bool) -> str | None:
    if any(write.by != part.by for write in part.staged):
        return "12: a task's writes are of another execution than its result"
    if not _said(part.callers, rows):
        return "13: a subgraph commits although what its callers were shown has moved"
    if part.answer is not None and part.answer.task != part.task:
        return "11: an answer counts for a task that has not asked"
    if not _said(part.shown, rows):
        return "11: an answer counts although what the human was shown has moved"
    if _said(part.seen, rows):
        return None
    if not first and _said(part.seen, commit.base):
        return "16: a task rests on facts that the tasks before it have changed"
    if part.hypothesis:
        return "9: a saved result counts although its facts have moved"
    return "4: a super-step commits on facts that have moved"


def _said(reads: tuple[Read, ...], rows: Rows) -> bool:
    return all(rows[read.key] == read.value for read in reads)


def _once(history: tuple[Commit, ...]) -> str | None:
    """8: every super-step is applied once. Of a subgraph: below one super-step of its caller's graph."""
    of_steps = [(c.thread, c.ns, c.ckpt[0]) for c in history if c.ckpt is not None and (c.writes or c.ns == ROOT)]
    return "8: a super-step is applied twice" if len(of_steps) != len(set(of_steps)) else None


def _serial(history: tuple[Commit, ...]) -> str | None:
    """4: some order of all commits, with each thread's in its own, explains what was read and what is there."""
    end = _versions(history)[-1]
    dead: set[tuple[frozenset[int], Rows]] = set()

    def place(done: frozenset[int], rows: Rows) -> bool:
        if len(done) == len(history):
            return rows == end
        if (done, rows) in dead:
            return False
        for n, commit in enumerate(history):
            earlier = (m for m in range(n) if history[m].thread == commit.thread)
            if n not in done and all(m in done for m in earlier):
                after = _run(commit, rows)
                if after is not None and place(done | {n}, after):
                    return True
        dead.add((done, rows))
        return False

    return None if place(frozenset(), _INITIAL) else "4: no serial order explains what is committed"


def _run(commit: Commit, rows: Rows) -> Rows | None:
    """The rows after a commit that runs alone; none if it would have read something else."""
    if not commit.parts:
        return overlay(rows, commit.writes)
    for part in commit.parts:
        if not _said((*part.callers, *part.seen), rows):
            return None
        rows = overlay(rows, part.staged)
    return rows


@lru_cache(maxsize=200_000)
def _of_checkpoints(history: tuple[Commit, ...], ckpts: tuple[Ckpt, ...], heads: tuple[object, ...]) -> str | None:
    applied = {(c.thread, c.ns, c.ckpt): c.writes for c in history if c.ckpt is not None}
    stored = {(c.thread, c.ns, c.id): c for c in ckpts}
    for place, ckpt in stored.items():
        if ckpt.writes != applied.get(place, ()):
            return "3: a checkpoint is stored without what its super-step has staged"
        if ckpt.ns != ROOT and ckpt.ns[0] not in (START, *(c.id for c in ckpts if c.ns == ROOT)):
            return "13: a subgraph is committed before what its caller started from"
    for place, writes in applied.items():
        if writes and place not in stored:
            return "3: a super-step is applied without its checkpoint"
    for thread, head in enumerate(heads):
        chain = [c for c in ckpts if (c.thread, c.ns) == (thread, ROOT)]
        if [c.parent for c in chain] != [START, *(c.id for c in chain)][: len(chain)]:
            return "7: the checkpoints of a thread are not one chain"
        if (chain[-1].id if chain else START) != head:
            return "7: the head of a thread is not the end of its chain"
    return None


def _of_answers(s: State) -> str | None:
    """11: no answer to a question that was withdrawn counts."""
    counted = {part.answer for commit in s.history for part in commit.parts if part.answer is not None}
    return "11: an answer to a question that was withdrawn counts" if counted & s.withdrawn else None
