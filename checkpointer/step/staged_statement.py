"""Sending a staged write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.read_set import Staged

__all__ = ["execute_staged"]


async def execute_staged(conn: Connection, staged: Staged) -> str:
    """Apply a staged write: the command tag.

    Always by the extended protocol, which takes one statement: no "...; COMMIT" gets through.
    """
    if staged.args:
        return await conn.execute(staged.sql, *staged.args)
    statement = await conn.prepare(staged.sql)
    await statement.fetch()
    return statement.get_statusmsg() or ""
