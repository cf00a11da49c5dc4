"""Sending staged writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.step.read_set import Emission, Reduction, Spawning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.shared.reductions import Reductions
    from superstep.checkpointer.step.read_set import Staged

__all__ = ["execute_alike", "execute_staged"]


async def execute_staged(conn: Connection, staged: Staged, reductions: Reductions | None = None) -> str:
    """Apply a staged write: the command tag.

    Always by the extended protocol, which takes one statement: no "...; COMMIT" gets through.
    An update of a shared value is merged among `reductions`, without a log: this is for views, which nobody else sees.
    An effect and a child are nothing that a view shows.
    """
    if isinstance(staged, Emission | Spawning):
        return ""
    if isinstance(staged, Reduction):
        if reductions is None:
            raise AssertionError("a snapshot of no super-step was to merge an update")
        await reductions.apply(conn, [staged.args])
        return ""
    if staged.args:
        return await conn.execute(staged.sql, *staged.args)
    statement = await conn.prepare(staged.sql)
    await statement.fetch()
    return statement.get_statusmsg() or ""


async def execute_alike(conn: Connection, staged: Sequence[Staged]) -> None:
    """Apply staged writes of one statement, in their order, without waiting for the answer to each."""
    await conn.executemany(staged[0].sql, [each.args for each in staged])
