"""Building a collection's index beside readers and writers: CREATE INDEX CONCURRENTLY, outside of transactions.

A build that was broken off leaves an index that no search uses and every insert pays for. The next one drops it.
Two who build at the same time: the second finds the first one's index, and leaves it alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer.collections import queries
from superstep.runtime.faults import ConfigError, DatabaseUnavailable
from superstep.runtime.sqlfile import quote_identifier

if TYPE_CHECKING:
    from superstep.checkpointer.collections.definition import Definition
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["PAYS_FROM", "build_index"]

PAYS_FROM = 10_000
"""Rows. Below, looking at all of them is about as quick, and exact."""

_BUILDING = "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE relid = to_regclass($1))"


async def build_index(database: Database, definition: Definition, *, force: bool = False) -> bool:
    """See `Collection.index`."""
    if definition.dimensions > definition.most_indexed:
        raise ConfigError(
            f"Collection {definition.name!r}: an index takes {definition.most_indexed:,} dimensions of "
            f"{definition.precision} precision, not {definition.dimensions:,}. "
            + ('precision="half" takes 4,000. ' if definition.precision == "full" else "")
            + "Searches go on looking at all rows."
        )
    async with database.connections.borrow() as conn:
        if not force and not await queries.has_rows(conn, database.schema, definition, PAYS_FROM):
            return any(valid for _, valid in await queries.indexes(conn, database.schema, definition))
        try:
            return await _build(conn, database.schema, definition)
        except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError) as e:
            raise DatabaseUnavailable(
                f"The index of collection {definition.name!r} was not built: it waited for a minute for transactions "
                f"that were under way. Searches go on without. Try again with `runtime collection index "
                f"{definition.name}`."
            ) from e


async def _build(conn: Connection, schema: str, definition: Definition) -> bool:
    for name, valid in await queries.indexes(conn, schema, definition):
        if valid:
            return True
        if await conn.fetchval(_BUILDING, definition.table(schema)):
            return False
        await conn.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quote_identifier(schema)}.{quote_identifier(name)}")
    name = quote_identifier(f"{definition.bare_table}_nearest")
    try:
        await conn.execute(
            f"CREATE INDEX CONCURRENTLY {name} ON {definition.table(schema)} "
            f"USING hnsw (embedding {definition.type_name}_cosine_ops) WITH (m = 24, ef_construction = 200)"
        )
        await conn.execute(f"ANALYZE {definition.table(schema)}")
    except (asyncpg.DuplicateTableError, asyncpg.UniqueViolationError):
        return False  # another process has begun to build it
    return True
