"""Statements about what committed results rest on. Each is one round trip; `schema` is the saver's, unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = ["Kept", "answered", "changed_since", "has_gaps", "history", "rewind", "writes_since"]

_sql = beside(__file__)


class Kept(NamedTuple):
    """What the result of a task rests on, as it is stored.

    Attributes:
        ns: namespace of its super-step.
        checkpoint_id: the checkpoint that started from.
        task_id: the task.
        callers: ids of the tasks that it ran in.
        channels: that it has written to.
        kind: how `effect` is encoded.
        effect: what it rests on.
    """

    ns: str
    checkpoint_id: str
    task_id: str
    callers: list[str]
    channels: list[str]
    kind: str
    effect: bytes


async def history(conn: Connection, schema: str, thread_id: str, head: str, *, whole: bool) -> list[asyncpg.Record]:
    """The tasks on the way to a checkpoint of the outermost graph, since its latest input or from the beginning.

    First to last; a task whose facts its run has written itself comes again, and counts as it comes last. `ns`,
    `checkpoint_id`, `task_id`, `task_path`; `root`, the outermost super-step that they were part of; `callers`;
    `channels` that they wrote to; `kind` and `effect`, null if nothing was kept.
    """
    return await conn.fetch(_sql(schema)["history"], thread_id, head, whole)


async def has_gaps(conn: Connection, schema: str, thread_id: str, head: str) -> bool:
    """Whether something that the run to a checkpoint has read was not kept."""
    return bool(await conn.fetchval(_sql(schema)["has_gaps"], thread_id, head))


async def writes_since(conn: Connection, schema: str, thread_id: str, checkpoint_id: str) -> int:
    """Domain writes that were committed in super-steps that started from this checkpoint or later ones."""
    return int(await conn.fetchval(_sql(schema)["writes_since"], thread_id, checkpoint_id))


async def changed_since(conn: Connection, schema: str, thread_id: str, checkpoint_id: str) -> bool:
    """Whether anybody has changed the state of a thread from outside since this checkpoint."""
    return bool(await conn.fetchval(_sql(schema)["changed_since"], thread_id, checkpoint_id))


async def answered(conn: Connection, schema: str, thread_id: str, checkpoint_id: str) -> list[str]:
    """Ids of the tasks of the outermost super-step that started from a checkpoint which have taken a human's answer."""
    return [row["task_id"] for row in await conn.fetch(_sql(schema)["answered"], thread_id, checkpoint_id)]


async def rewind(conn: Connection, schema: str, thread_id: str, token: int, checkpoint_id: str) -> bool:
    """Make an earlier checkpoint the latest again; false without the commit right."""
    return await conn.fetchval(_sql(schema)["rewind"], thread_id, token, checkpoint_id) is not None
