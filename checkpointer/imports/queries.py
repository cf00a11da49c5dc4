"""A typed function for each statement of `queries.sql`; `schema` is the saver's, unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.imports.rows import Counts
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = [
    "begin",
    "counts",
    "finish",
    "ids",
    "lock",
    "look",
    "missing_values",
    "put_checkpoints",
    "put_values",
    "put_writes",
]

_sql = beside(__file__)


async def begin(conn: Connection, schema: str, thread_id: str) -> bool:
    """Make the row of a thread; false if there is one."""
    return await conn.fetchval(_sql(schema)["begin"], thread_id) is not None


async def lock(conn: Connection, schema: str, thread_id: str) -> asyncpg.Record | None:
    """Lock a thread: `head`, when it was last touched, when its head was made."""
    return await conn.fetchrow(_sql(schema)["lock"], thread_id)


async def look(conn: Connection, schema: str, thread_id: str) -> asyncpg.Record | None:
    """As `lock`, without locking."""
    return await conn.fetchrow(_sql(schema)["look"], thread_id)


async def ids(conn: Connection, schema: str, thread_id: str) -> set[tuple[str, str]]:
    """Namespace and id of each checkpoint of a thread."""
    return {(row["ns"], row["checkpoint_id"]) for row in await conn.fetch(_sql(schema)["ids"], thread_id)}


async def put_checkpoints(conn: Connection, schema: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store checkpoints."""
    await conn.executemany(_sql(schema)["put_checkpoint"], rows)


async def put_values(conn: Connection, schema: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store values of channels, those that are not there."""
    await conn.executemany(_sql(schema)["put_value"], rows)


async def put_writes(conn: Connection, schema: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store pending writes, or what has become of them."""
    await conn.executemany(_sql(schema)["put_write"], rows)


async def finish(
    conn: Connection, schema: str, thread_id: str, head: str | None, graph: str | None, status: str, error: str | None
) -> None:
    """Say where a thread is, and fence whoever has it."""
    await conn.execute(_sql(schema)["finish"], thread_id, head, graph, status, error)


async def counts(conn: Connection, schema: str, thread_id: str) -> Counts:
    """What is there of a thread."""
    row = await conn.fetchrow(_sql(schema)["counts"], thread_id)
    return Counts(*row) if row is not None else Counts()


async def missing_values(conn: Connection, schema: str, thread_id: str) -> list[str]:
    """Channels of which a checkpoint names a version that is not there."""
    return [row["channel"] for row in await conn.fetch(_sql(schema)["missing_values"], thread_id)]
