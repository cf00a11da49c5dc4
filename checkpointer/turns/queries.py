"""Statements of the lines in which turns are waited for. Each is one round trip; `schema` is the saver's, unquoted.

A line is one row, and every change of it takes that row's lock: so joining, leaving and evicting are one after the
other, and whoever joins is behind all who had joined before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = ["beat", "evict", "join", "leave", "look"]

_sql = beside(__file__)


async def join(conn: Connection, schema: str, name: bytes, ticket: str) -> asyncpg.Record:
    """Stand in line. Returns `head`, the ticket whose turn it is, and its `beat`, as the others below do."""
    row = await conn.fetchrow(_sql(schema)["join"], name, ticket)
    if row is None:
        raise AssertionError("an upsert returned no row")
    return row


async def leave(conn: Connection, schema: str, name: bytes, ticket: str) -> asyncpg.Record | None:
    """Leave the line; `None` if the ticket is not in it, or was its last."""
    return await conn.fetchrow(_sql(schema)["leave"], name, ticket)


async def beat(conn: Connection, schema: str, names: Sequence[bytes], tickets: Sequence[str]) -> None:
    """Say that these turns are alive."""
    await conn.execute(_sql(schema)["beat"], names, tickets)


async def look(conn: Connection, schema: str, names: Sequence[bytes], tickets: Sequence[str]) -> list[asyncpg.Record]:
    """Of each line its `name`, and of these tickets those that are in it: `waiting`."""
    return await conn.fetch(_sql(schema)["look"], names, tickets)


async def evict(conn: Connection, schema: str, name: bytes, head: str, seen: int) -> asyncpg.Record | None:
    """Take the head's process out of the line if it has not beaten since; `None` if it has."""
    return await conn.fetchrow(_sql(schema)["evict"], name, head, seen)
