"""Whether a COMMIT was carried out whose answer was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.commit.queries import NewCheckpoint, checkpoint_exists
from superstep.checkpointer.threads.queries.maintenance import lock_threads

if TYPE_CHECKING:
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["landed"]

_PATIENT = "SET LOCAL lock_timeout = '60s'"


async def landed(database: Database, checkpoint: NewCheckpoint) -> bool:
    """Whether the checkpoint was committed; asked on a new connection, as often as the server needs to return.

    Raises:
        DatabaseUnavailable: for a minute the server has been working on that COMMIT.
    """

    async def ask(conn: Connection) -> bool:
        async with conn.transaction(isolation="read_committed"):
            await conn.execute(_PATIENT)
            await lock_threads(conn, database.schema, [checkpoint.thread_id])
            return await checkpoint_exists(conn, database.schema, checkpoint)

    return await database.autocommit(ask)
