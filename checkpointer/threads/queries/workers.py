"""Statements about processes that run threads. Each is one round trip; `schema` is the saver's, unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.threads.liveness import Process

__all__ = ["beat", "leave", "of_thread"]

_sql = beside(__file__)


async def beat(conn: Connection, schema: str, worker: UUID, process: Process) -> None:
    """Give a sign of life."""
    await conn.execute(_sql(schema)["beat"], worker, process.host, process.machine, process.pid, process.mark)


async def leave(conn: Connection, schema: str, worker: UUID) -> None:
    """Be known no more."""
    await conn.execute(_sql(schema)["leave"], worker)


async def of_thread(conn: Connection, schema: str, thread_id: str) -> asyncpg.Record | None:
    """The graph of a thread with its version, `head`, `token`, and its worker, as `summaries.runner_of` takes it.

    Returns:
        `None` without the thread.
    """
    return await conn.fetchrow(_sql(schema)["of_thread"], thread_id)
