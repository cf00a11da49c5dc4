"""Statements about what is old, and what room it takes; `schema` is the saver's, unquoted. Each is one round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

    Rows = Sequence[asyncpg.Record]

__all__ = [
    "Due",
    "Found",
    "by_graph",
    "by_table",
    "by_thread",
    "bytes_of_threads",
    "count_threads",
    "due",
    "due_sums",
    "lock_due",
    "share_of_threads",
    "shares",
    "some_due",
]

_sql = beside(__file__)

COUNTED = 2_000
_SAMPLED = (
    "checkpoint", "channel_value", "task_write", "task_effect", "llm_call", "model_call", "step_attempt", "provenance",
)  # fmt: skip
_PAGES_OF_THREADS = 100  # some thousand threads
_PAGES = 1_000  # of each table: 8 MB, for sums that are right within some percent


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


class Found(NamedTuple):
    """A thread that a rule is about, with the number of its checkpoints, counted up to `COUNTED`."""

    thread_id: str
    checkpoints: int


async def due(conn: Connection, schema: str, rule: Due, after: str, most: int) -> list[Found]:
    """Threads that the rule is about, in the order of their ids, from the first that is greater than `after`."""
    return [Found(*row) for row in await conn.fetch(_sql(schema)["due"], after, *rule, COUNTED, most)]


async def some_due(conn: Connection, schema: str, rule: Due, most: int, share: float) -> list[Found]:
    """Some of the threads that the rule is about, from this percentage of the pages."""
    return [Found(*row) for row in await conn.fetch(_sql(schema)["some_due"], most, *rule, COUNTED, share)]


async def due_sums(conn: Connection, schema: str, rule: Due, shares: Sequence[float]) -> tuple[int, int]:
    """How many threads the rule is about, and about how many bytes their rows take."""
    (row,) = await conn.fetch(_sql(schema)["due_sums"], shares, *rule)
    return row["threads"], row["bytes"]


async def lock_due(conn: Connection, schema: str, rule: Due, thread_ids: Sequence[str]) -> list[str]:
    """Those of the threads that the rule is about still, locked until the transaction ends. Waits for nobody."""
    return [row["thread_id"] for row in await conn.fetch(_sql(schema)["lock_due"], list(thread_ids), *rule)]


async def bytes_of_threads(conn: Connection, schema: str, thread_ids: Sequence[str]) -> dict[str, int]:
    """About how many bytes the rows of each of these threads take."""
    return dict(await conn.fetch(_sql(schema)["bytes_of_threads"], list(thread_ids)))  # type: ignore[arg-type]


def shares(tables: Rows) -> list[float]:
    """What percentage of the pages of each table is to be looked at, by what `by_table` says of them."""
    return [_share(tables, name, _PAGES) for name in _SAMPLED]


def share_of_threads(tables: Rows) -> float:
    """Likewise, of the table of threads, to find some."""
    return _share(tables, "thread", _PAGES_OF_THREADS)


def _share(tables: Rows, name: str, pages: int) -> float:
    there = next((row["pages"] for row in tables if row["of_table"] == name), 0)
    return min(100.0, 100 * pages / max(there, 1))


async def by_thread(conn: Connection, schema: str, shares: Sequence[float], most: int) -> Rows:
    """The largest threads: `thread_id`, `graph`, `status`, `updated_at`, `bytes`, `seen`."""
    return await conn.fetch(_sql(schema)["by_thread"], shares, most)


async def by_graph(conn: Connection, schema: str, shares: Sequence[float]) -> Rows:
    """`graph`, `threads`, `bytes`, the largest first."""
    return await conn.fetch(_sql(schema)["by_graph"], shares)


async def by_table(conn: Connection, schema: str) -> Rows:
    """`of_table`, `bytes` and `pages` of every table of the schema, the largest first."""
    return await conn.fetch(_sql(schema)["by_table"], schema)


async def count_threads(conn: Connection, schema: str) -> int:
    """How many threads there are."""
    found: Any = await conn.fetchval(_sql(schema)["count_threads"])
    return int(found)
