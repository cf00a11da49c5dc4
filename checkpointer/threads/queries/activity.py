"""Statements about what goes on right now. Each is one round trip; `schema` is the saver's, unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = ["running", "spend", "steps"]

_sql = beside(__file__)


async def running(conn: Connection, schema: str, since: timedelta, most: int) -> Sequence[asyncpg.Record]:
    """Threads that a run is at work on, of those that have changed in the window."""
    return await conn.fetch(_sql(schema)["running"], since, most)


async def steps(conn: Connection, schema: str, window: timedelta) -> asyncpg.Record:
    """`steps`, `conflicts`, `repairs`, `drifts` of a window that ends now."""
    (row,) = await conn.fetch(_sql(schema)["steps"], window)
    return row


async def spend(conn: Connection, schema: str, shorter: timedelta, longer: timedelta) -> asyncpg.Record:
    """`calls` and `usd`, each also `…_lately`, of two windows that end now; `tokens` of the longer one; `at`."""
    (row,) = await conn.fetch(_sql(schema)["spend"], shorter, longer)
    return row
