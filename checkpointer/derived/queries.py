"""A typed function for each statement of `queries.sql` that needs more than its arguments; `schema` is unquoted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.derived.aggregates import Aggregate
from superstep.checkpointer.derived.folding import Plan
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.derived.folding import Fold

__all__ = ["add_fold", "aggregates", "columns_of", "empty", "insert_events", "lock", "plan_of", "point", "sql"]

# The texts of the statements, by name, for a schema's name, unquoted.
sql = beside(__file__)


async def lock(conn: Connection, schema: str) -> None:
    """Wait for the other batches. Must be the first statement of the transaction: it takes no snapshot, others do."""
    await conn.execute(sql(schema)["lock"])


async def point(conn: Connection, schema: str) -> int:
    """The ingestion point."""
    found: int = await conn.fetchval(sql(schema)["point"])
    return found


async def aggregates(conn: Connection, schema: str) -> list[asyncpg.Record]:
    """All declarations, by name."""
    return await conn.fetch(sql(schema)["aggregates"])


def plan_of(row: asyncpg.Record) -> Plan:
    """A declaration made ready."""
    return Plan(row["id"], Aggregate.parsed(row["name"], json.loads(row["spec"]), lambda key: f"{row['name']}: {key}"))


async def insert_events(conn: Connection, schema: str, at: int, events: Sequence[tuple[Any, ...]]) -> None:
    """Keep events: partition, offset, type, time, how far behind it came, identity, payload as JSON text of each.

    By COPY, which costs the driver a third of what arrays do.

    Raises:
        asyncpg.DataError: the database does not take one of them.
    """
    columns = ("partition_id", "position", "type", "at", "behind", "identity", "payload", "point")
    rows = [(*event, at) for event in events]
    await conn.copy_records_to_table("derived_event", schema_name=schema, columns=columns, records=rows)


async def add_fold(conn: Connection, schema: str, fold: Fold) -> None:
    """Add what events came to."""
    texts = sql(schema)
    if fold.numbers:
        rows = sorted((*place, *found) for place, found in fold.numbers.items())
        await conn.execute(texts["add_numbers"], *columns_of(rows, 5))
    if fold.members:
        await conn.execute(texts["add_members"], *columns_of(sorted((*k, n) for k, n in fold.members.items()), 5))
    if fold.lasts:
        await conn.execute(texts["add_lasts"], *columns_of(sorted((*k, *v) for k, v in fold.lasts.items()), 7))
    if fold.late:
        await conn.execute(texts["add_late"], *columns_of(sorted(fold.late.items()), 2))


async def empty(conn: Connection, schema: str, aggregate_id: int, most: int) -> bool:
    """Delete what an aggregate has come to, so many rows at most. Returns whether there were any."""
    for table in ("number", "member", "last"):
        if await conn.execute(sql(schema)[f"empty_{table}"], aggregate_id, most) != "DELETE 0":
            return True
    return False


def columns_of(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as columns, one array each."""
    listed = list(rows)
    return [[row[at] for row in listed] for at in range(width)]
