"""Reads that never say the same: they depend on the time, on chance, or on who asks, and no commit can validate them.

They look like facts that keep moving. So a fact that has moved repeatedly under one super-step is asked twice, in two
transactions that see the same database: Postgres names what a snapshot shows (`pg_current_snapshot`). If the answers
differ all the same, nothing that anybody does will ever make them equal. A read may take the number of its transaction
(`txid_current()`): that much the next snapshot differs by, and the database is the same for all that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from superstep.checkpointer.database.errors import short
from superstep.checkpointer.step.answers import Answer, returned
from superstep.checkpointer.step.order import still_holds
from superstep.runtime.faults import ReadRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.read_set import Read
    from superstep.checkpointer.step.task import Task

__all__ = ["never_holds"]

_ENOUGH = 2  # times that a fact has moved under one super-step, until it is looked at
_SNAPSHOT = "SELECT pg_current_snapshot()::text"
_OWN = "SELECT pg_current_xact_id_if_assigned()::text"
_TRIES = 5  # pairs of transactions: others may commit between the two


async def _changes_by_itself(conn: Connection, read: Read) -> bool:
    """Whether a read is known to answer otherwise although the database is the same. On a connection that is free."""
    for _ in range(_TRIES):
        one = await _ask(conn, read)
        other = await _ask(conn, read)
        if one is None or other is None:
            return False
        if other.before == one.after:
            again = type(read)(read.sql, read.args, one.answer.digest)
            return not await still_holds(conn, again, other.answer)
    return False


class _Asked(NamedTuple):
    """What a read said, what its transaction saw, and what the next one sees if nobody else has done anything."""

    answer: Answer
    before: str
    after: str


async def _ask(conn: Connection, read: Read) -> _Asked | None:
    try:
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            snapshot = str(await conn.fetchval(_SNAPSHOT))
            answer = await returned(read.sql, await conn.fetch(read.sql, *read.args))
            return _Asked(answer, snapshot, _next(snapshot, await conn.fetchval(_OWN)))
    except (asyncpg.PostgresError, asyncpg.InterfaceError):
        return None


def _next(snapshot: str, own: str | None) -> str:
    """The snapshot (xmin:xmax:transactions under way) after a transaction that has taken the next number, or none."""
    first, end, others = snapshot.split(":")
    if own != end:
        return snapshot if own is None else ""  # others have taken numbers in between
    after = str(int(end) + 1)
    return f"{first if others else after}:{after}:{others}"


async def never_holds(
    moved: Iterable[tuple[Task, Read]], times_moved: Callable[[Read], int], conn: Connection
) -> ReadRefused | None:
    """The error for one of these reads that changes by itself, if it has moved often enough to ask."""
    for task, read in moved:
        if times_moved(read) >= _ENOUGH and await _changes_by_itself(conn, read):
            return ReadRefused(
                f"A read of {task.node!r} says something else each time, although nothing has changed, so no commit "
                f"can validate it: {short(read.sql)}. Nothing was written. Give what changes (the time, a random "
                f"number) as an argument, taken once in the node, or read it with validate=False."
            )
    return None
