"""What is told of the memory to programs that run no graph. Imports nothing of LangGraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.memory import queries
from superstep.checkpointer.memory.namespaces import checked_namespace
from superstep.checkpointer.memory.rejections import explained
from superstep.checkpointer.memory.rows import Memory, Origin
from superstep.checkpointer.memory.values import value_of, vector_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["memories"]


async def memories(
    database: Database,
    namespace: Sequence[str],
    time: queries.Time,
    vector: Sequence[float] | None,
    page: tuple[int, int],
) -> list[Memory]:
    """Items in a namespace and below: the nearest to a vector first, or else the latest.

    Args:
        database: where.
        namespace: the beginning of their namespaces; empty for all.
        time: which time is read.
        vector: what is searched for, if anything.
        page: how many at most, after how many.

    Raises:
        MemoryInvalid: the namespace is not one, or the vectors have other dimensions.
        ExtensionMissing: a search in a database without pgvector.
        SchemaMissing: the tables are not there.
    """
    first = (3 if vector is None else 4) + len(time.conditions(1)[1])
    where = queries.within(checked_namespace(namespace), first)
    if vector is None:
        text, args = queries.search(database.schema, time, where, *page)
    else:
        text, args = queries.nearest(database.schema, time, where, *page, vector_text(vector))

    async def look(conn: Connection) -> tuple[Any, Any]:
        rows = await conn.fetch(text, *args)
        more, items = queries.origins(database.schema, [(row["namespace"], row["key"], row["version"]) for row in rows])
        return rows, await conn.fetch(more, *items)

    try:
        rows, known = await database.autocommit(look)
    except Exception as e:
        found = await explained(e, database)
        if found is e:
            raise
        raise found from e
    return [_memory(row, more, scored=vector is not None) for row, more in zip(rows, known, strict=True)]


def _memory(row: Any, more: Any, *, scored: bool) -> Memory:
    return Memory(
        namespace=tuple(row["namespace"]),
        key=row["key"],
        value=value_of(row["value"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        expires_at=more["expires_at"],
        version=row["version"],
        score=row["score"] if scored else None,
        origin=Origin.of_row(more),
    )
