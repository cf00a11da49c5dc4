"""Statements about versions of graphs, and what threads need of them. Each is one round trip; `schema` is unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = ["cancelled", "lock", "nested", "nested_writes", "stamp"]

_sql = beside(__file__, "parts.sql")


async def lock(conn: Connection, schema: str, thread_id: str) -> asyncpg.Record | None:
    """`version`, `structure`, `head` and `token` of a thread, kept from writers until the transaction ends."""
    return await conn.fetchrow(_sql(schema)["lock"], thread_id)


async def nested(conn: Connection, schema: str, thread_id: str, checkpoint_id: str) -> Sequence[asyncpg.Record]:
    """Where the subgraphs stand that ran in the super-step from a checkpoint, as `codec.checkpoint_tuple` takes it."""
    return await conn.fetch(_sql(schema)["nested"], thread_id, checkpoint_id)


async def nested_writes(conn: Connection, schema: str, thread_id: str, checkpoint_id: str) -> int:
    """How many domain writes those subgraphs have committed."""
    return int(await conn.fetchval(_sql(schema)["nested_writes"], thread_id, checkpoint_id))


async def stamp(conn: Connection, schema: str, thread_id: str, version: str, structure: str) -> None:
    """From here on the thread is one of this version."""
    await conn.execute(_sql(schema)["stamp"], thread_id, version, structure)


async def cancelled(conn: Connection, schema: str, thread_id: str) -> None:
    """What the thread had left unfinished is given up."""
    await conn.execute(_sql(schema)["cancelled"], thread_id)
