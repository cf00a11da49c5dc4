"""What PostgreSQL promises, and no more: the server, the outside writer, lost connections.

A SERIALIZABLE transaction sees one snapshot. It commits if no other has written since what it writes (the first one
wins), and if its reads and writes close no circle with those that have committed: the most that the manual allows to
pass. Real servers abort more; a scenario that allows `aborts` has some of those too.

A COMMIT that is sent holds its locks until it has landed, or was refused. If nobody waits for it any more, because the
connection is lost or the process is dead, it may still land, or may have been rolled back.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from tests.model.world import Commit, State, Thread, Tx, overlay, put

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.world import By, Pending

OUTSIDE: By = (-1, 0)


def begun(s: State, flow: int) -> Tx:
    """A transaction with a snapshot of now."""
    return Tx(len(s.history), s.rows, s.threads[flow].version)


def locked(s: State, thread: int, *, shared: bool = False) -> bool:
    """Whether a COMMIT under way keeps this lock of a thread's row out. Those of subgraphs hold a shared one."""
    return any(p.commit.thread == thread and not (shared and p.nested) for p in _holding(s))


def keys_locked(s: State, keys: set[int]) -> bool:
    """Whether a COMMIT under way has written one of these keys."""
    return any(write.key in keys for p in _holding(s) for write in p.commit.writes)


def _holding(s: State) -> Iterator[Pending]:
    """Super-steps whose locks are held: their COMMIT is under way, or they have handed their transaction on."""
    for p in s.pending:
        yield from (*p.others, p)
    if s.handed is not None:
        yield from s.handed.members


def admitted(s: State, p: Pending, *, serializable: bool = True) -> bool:
    """Whether a transaction may commit now."""
    return _admitted(s.history, tuple(each.commit for each in (*p.others, p)), serializable)


@lru_cache(maxsize=200_000)
def _admitted(history: tuple[Commit, ...], new: tuple[Commit, ...], serializable: bool) -> bool:
    written = {write.key for each in new for write in each.writes}
    if any(write.key in written for each in history[new[0].start :] for write in each.writes):
        return False
    return not serializable or not _closes_a_circle((*history, *new))


def _closes_a_circle(txs: tuple[Commit, ...]) -> bool:
    """Whether the last of them is on a circle of dependencies. Those before it are on none.

    What was committed together is one transaction.
    """
    keys = [({write.key for write in tx.writes}, tx.reads) for tx in txs]

    def before(a: int, b: int) -> bool:
        (a_writes, a_reads), (b_writes, b_reads) = keys[a], keys[b]
        if a < b and (a_writes & b_writes or (txs[a].thread >= 0 and txs[a].thread == txs[b].thread)):
            return True  # the same row, or that of their thread
        if a < txs[b].start and a_writes & b_reads:
            return True  # b has read what a wrote
        return txs[a].start <= b and bool(a_reads & b_writes)  # a has not seen what b writes

    of: dict[object, list[int]] = {}
    for n, tx in enumerate(txs):
        of.setdefault(n if tx.together is None else tx.together, []).append(n)
    last = next(reversed(of))
    todo: list[object] = [last]
    seen: set[object] = set()
    while todo:
        at = todo.pop()
        for other in of:
            if other != at and other not in seen and any(before(a, b) for a in of[at] for b in of[other]):
                if other == last:
                    return True
                seen.add(other)
                todo.append(other)
    return False


def applied(s: State, p: Pending) -> State:
    """The database, and what the invariants are told, when a commit has landed."""
    for other in p.others:
        s = applied(s, other)
    commit, ckpt = p.commit, p.ckpt
    threads, row = s.threads, s.threads[commit.thread]
    saved = s.saved
    for key, what in p.noted:
        saved = put(saved, key, what)
    if not p.nested:
        row = Thread(row.token, ckpt.id, row.version + 1, row.owner)
        threads = (*threads[: commit.thread], row, *threads[commit.thread + 1 :])
        here = (ckpt.thread, ckpt.parent)  # what belongs to the super-step is not asked for again
        saved = tuple(kv for kv in saved if (kv[0][0], kv[0][1][0] if kv[0][1] else kv[0][2]) != here)
    ckpts = s.ckpts if ckpt in s.ckpts else (*s.ckpts, ckpt)
    history = (*s.history, commit) if commit.writes or commit.parts else s.history
    return s._replace(rows=overlay(s.rows, commit.writes), threads=threads, saved=saved, ckpts=ckpts, history=history)
