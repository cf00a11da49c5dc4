"""What the server does for a statement: which rows it looks at, and whether it reads whole tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

__all__ = ["Plan", "plan_of"]


class Plan(NamedTuple):
    """How a statement was executed.

    Attributes:
        rows: of tables that were looked at, those that a filter took out included; not those of an index alone.
        pages: that were read, from the cache or not.
        whole: tables that were read from one end to the other.
    """

    rows: int
    pages: int
    whole: Sequence[str]


async def plan_of(conn: Connection, sql: str, args: Sequence[Any], mode: str) -> Plan:
    """Execute a statement, and roll it back. Call it in no transaction.

    Args:
        conn: a connection.
        sql: the statement.
        args: its arguments.
        mode: "force_generic_plan", which is made for any arguments, or "force_custom_plan", for these.
    """
    transaction = conn.transaction()
    await transaction.start()
    try:
        await conn.execute(f"SET LOCAL plan_cache_mode = {mode}")
        statement = await conn.prepare(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}")
        (found,) = json.loads(await statement.fetchval(*args))
    finally:
        await transaction.rollback()
    nodes = list(_nodes(found["Plan"]))
    scans = [node for node in nodes if "Relation Name" in node or "Index Name" in node]
    return Plan(
        rows=round(sum(_looked_at(node) for node in scans if node["Node Type"] != "Index Only Scan")),
        pages=sum(found["Plan"][f"Shared {how} Blocks"] for how in ("Hit", "Read")),
        whole=[
            node["Relation Name"]
            for node in scans
            if node["Node Type"] == "Seq Scan" or (node["Node Type"].startswith("Index") and "Index Cond" not in node)
            if node["Actual Loops"] and _looked_at(node) > 100
        ],
    )


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)


def _looked_at(node: Mapping[str, Any]) -> float:
    removed = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])
