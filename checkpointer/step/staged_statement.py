"""Sending staged writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.read_set import Staged

__all__ = ["execute_alike", "execute_staged"]


async def execute_staged(conn: Connection, staged: Staged) -> str:
    """Apply a staged write: the command tag.

    Always by the extended protocol, which takes one statement: no "...; COMMIT" gets through.
    """
    if staged.args:
        return await conn.execute(staged.sql, *staged.args)
    statement = await conn.prepare(staged.sql)
    await statement.fetch()
    return statement.get_statusmsg() or ""


async def execute_alike(conn: Connection, staged: Sequence[Staged]) -> None:
    """Apply staged writes of one statement, in their order, without waiting for the answer to each."""
    await conn.executemany(staged[0].sql, [each.args for each in staged])
