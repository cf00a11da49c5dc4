"""Statements about what is old, and what room it takes; `schema` is the saver's, unquoted. Each is one round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = ["Due", "by_graph", "by_table", "by_thread", "bytes_of_threads", "count_threads", "due", "lock_due"]

_sql = beside(__file__)


class Due(NamedTuple):
    """The threads that a rule is about, as the statements take it.

    Attributes:
        graph: of this graph; `None` stands for all but `others`.
        others: the graphs that have a rule of their own.
        age: not changed for so long.
        waiting: whether those that wait for a human's answer are among them.
        questions: the channel that questions are written to.
        with_history: only those that have more than one checkpoint.
    """

    graph: str | None
    others: list[str]
    age: timedelta
    waiting: bool
    questions: str
    with_history: bool


async def due(conn: Connection, schema: str, rule: Due, after: str, most: int) -> list[str]:
    """Ids of threads that the rule is about, in their order, from the first that is greater than `after`."""
    return [row["thread_id"] for row in await conn.fetch(_sql(schema)["due"], *rule, after, most)]


async def lock_due(conn: Connection, schema: str, rule: Due, thread_ids: Sequence[str]) -> list[str]:
    """Those of the threads that the rule is about still, locked until the transaction ends. Waits for nobody."""
    return [row["thread_id"] for row in await conn.fetch(_sql(schema)["lock_due"], *rule, list(thread_ids))]


async def bytes_of_threads(conn: Connection, schema: str, thread_ids: Sequence[str]) -> int:
    """About how many bytes the rows of these threads take."""
    return int(await conn.fetchval(_sql(schema)["bytes_of_threads"], list(thread_ids)))


async def by_thread(conn: Connection, schema: str, most: int) -> Sequence[asyncpg.Record]:
    """The largest threads: `thread_id`, `graph`, `status`, `updated_at`, `bytes`."""
    return await conn.fetch(_sql(schema)["by_thread"], most)


async def by_graph(conn: Connection, schema: str) -> Sequence[asyncpg.Record]:
    """`graph`, `threads`, `bytes`, the largest first."""
    return await conn.fetch(_sql(schema)["by_graph"])


async def by_table(conn: Connection, schema: str) -> Sequence[asyncpg.Record]:
    """`of_table` and `bytes` of every table of the schema, the largest first."""
    return await conn.fetch(_sql(schema)["by_table"], schema)


async def count_threads(conn: Connection, schema: str) -> int:
    """How many threads there are."""
    found: Any = await conn.fetchval(_sql(schema)["count_threads"])
    return int(found)
