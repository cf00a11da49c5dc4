"""Statements that take back what an input has done to its thread. Each is one round trip; `schema` is unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = ["back_to", "forget_input", "lock", "since_input", "with_nested"]

_NO_STRUCTURE = ""  # equal to none: the next run that goes on with the thread looks at what it needs

_sql = beside(__file__)


async def lock(conn: Connection, schema: str, thread_id: str) -> asyncpg.Record | None:
    """`head`, `input_head` and `worker_id` of a thread, kept from writers until the transaction ends."""
    return await conn.fetchrow(_sql(schema)["lock"], thread_id)


async def since_input(
    conn: Connection, schema: str, thread_id: str, input_head: str | None
) -> Sequence[asyncpg.Record]:
    """`checkpoint_id`, `parent_id`, `begins` and `forks`, from the head back to where the latest input came in."""
    return await conn.fetch(_sql(schema)["since_input"], thread_id, input_head)


async def with_nested(
    conn: Connection, schema: str, thread_id: str, checkpoint_ids: Sequence[str]
) -> Sequence[asyncpg.Record]:
    """`ns`, `checkpoint_id` and `writes` of these, and of what subgraphs have made in the super-steps from them."""
    return await conn.fetch(_sql(schema)["with_nested"], thread_id, list(checkpoint_ids))


async def back_to(conn: Connection, schema: str, thread_id: str, input_head: str | None) -> str | None:
    """Make a checkpoint the head again, if it is there still. Returns what is the head then."""
    head: str | None = await conn.fetchval(_sql(schema)["back_to"], thread_id, input_head, _NO_STRUCTURE)
    return head


async def forget_input(conn: Connection, schema: str, thread_id: str, checkpoint_id: str, task_id: str) -> None:
    """Delete what the input has written to delta channels at the checkpoint it came in at."""
    await conn.execute(_sql(schema)["forget_input"], thread_id, checkpoint_id, task_id)
