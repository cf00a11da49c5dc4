"""Statements that delete, copy and prune; `schema` is the saver's, unquoted.

Each is one round trip, except `delete_checkpoints`, which is five.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = [
    "chain",
    "checkpoints_of_runs",
    "copy_thread",
    "delete_checkpoints",
    "delete_threads",
    "encrypted_texts",
    "encrypted_values",
    "hold_threads",
    "lock_threads",
    "replace",
]

_sql = beside(__file__)


async def delete_threads(conn: Connection, schema: str, thread_ids: Sequence[str]) -> None:
    """Delete threads with all that belongs to them. Call it in a transaction, after `hold_threads`."""
    await conn.execute(_sql(schema)["delete_thread"], list(thread_ids))


async def lock_threads(conn: Connection, schema: str, thread_ids: Sequence[str]) -> None:
    """Keep every writer of these threads out until the transaction ends; wait for those that are at it."""
    await conn.fetchval(_sql(schema)["lock_threads"], list(thread_ids))


async def hold_threads(conn: Connection, schema: str, thread_ids: Sequence[str]) -> None:
    """As `lock_threads`, also for threads that are not there, so that none begins. To be deleted in the transaction."""
    await conn.execute(_sql(schema)["hold_threads"], list(thread_ids))


async def checkpoints_of_runs(conn: Connection, schema: str, run_ids: Sequence[str]) -> Sequence[asyncpg.Record]:
    """`thread_id`, `ns` and `checkpoint_id` of checkpoints whose metadata names one of the runs."""
    return await conn.fetch(_sql(schema)["checkpoints_of_runs"], list(run_ids))


async def chain(conn: Connection, schema: str, thread_id: str) -> Sequence[asyncpg.Record]:
    """The checkpoints of a thread with what pruning needs to know: the head first, then the newest."""
    return await conn.fetch(_sql(schema)["chain"], thread_id)


async def delete_checkpoints(
    conn: Connection, schema: str, thread_id: str, checkpoints: Sequence[tuple[str, str]], *, keep_costs: bool = False
) -> None:
    """Delete checkpoints (namespace, id) and what only they needed, and fence runs that might continue from them.

    With `keep_costs`, the records of calls of models stay: they were paid. Five statements: call it in a transaction,
    under `lock_threads`.
    """
    sql = _sql(schema)
    doomed = thread_id, [ns for ns, _ in checkpoints], [each for _, each in checkpoints]
    await conn.execute(sql["step_back"], *doomed)
    await conn.execute(sql["delete_checkpoints"], *doomed, keep_costs)
    await conn.execute(sql["orphan_parents"], thread_id)
    await conn.execute(sql["sweep"], thread_id)
    await conn.execute(sql["reset_head"], thread_id)


async def copy_thread(conn: Connection, schema: str, source: str, target: str) -> None:
    """Copy a thread with everything. What it cost is shown for the copy too, but not charged to any route again."""
    await conn.execute(_sql(schema)["copy_thread"], source, target)


async def encrypted_values(conn: Connection, schema: str, table: str, thread_id: str) -> Sequence[asyncpg.Record]:
    """Rows of a thread with `kind` and `value`, where they are (`at`), and what else their values are bound to."""
    return await conn.fetch(_sql(schema)[f"encrypted_values_of_{table}"], thread_id)


async def encrypted_texts(conn: Connection, schema: str, column: str, thread_id: str) -> Sequence[asyncpg.Record]:
    """Rows of a thread with `text`, where they are (`at`), and what it is bound to: `ns` and `detail`, if not null."""
    return await conn.fetch(_sql(schema)[f"encrypted_texts_of_{column}"], thread_id)


async def replace(conn: Connection, schema: str, what: str, rows: Sequence[tuple[str | bytes, ...]]) -> None:
    """Replace the values of a table, or the texts of a column: rows of `at` and what stands there from now on.

    Of each row once, in the transaction that has looked it up: a changed row is somewhere else.
    """
    await conn.executemany(_sql(schema)[f"replace_{what}"], rows)
