"""Giving up what a parked thread has left unfinished: its state stays, nothing of it is run any more.

A checkpoint is put on top of the latest, which stands before no node. It is made of what was loaded before, and stored
in one transaction that locks the thread's row, if the fencing token is the one from before that: whoever claims the
thread meanwhile, or changes it, has given it another one, and then it is looked at again. The transaction is repeated
after a lost connection; if the first one has landed, the thread has nothing left that could be given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.commit.queries import NewCheckpoint, put_outside
from superstep.checkpointer.langgraph.codec import checkpoint_row, checkpoint_tuple
from superstep.checkpointer.langgraph.encryption import Where
from superstep.checkpointer.langgraph.lifted import cancelled
from superstep.checkpointer.langgraph.standing import is_parked
from superstep.checkpointer.threads.digest_key import digest_key
from superstep.checkpointer.threads.ownership import busy
from superstep.checkpointer.threads.queries import running, versions, workers
from superstep.checkpointer.threads.summaries import runner_of
from superstep.runtime.faults import ThreadBusy

if TYPE_CHECKING:
    import asyncpg
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["cancel"]

_TRIES = 12


async def cancel(database: Database, serde: SerializerProtocol, thread_id: str) -> bool:
    """Give up what a thread has left unfinished; whether there was anything.

    Raises:
        ThreadBusy: it is being run, or changes hands again and again. Nothing was changed.
    """
    schema = database.schema
    for _ in range(_TRIES):
        row = await database.autocommit(lambda conn: workers.of_thread(conn, schema, thread_id))
        if row is None or row["head"] is None:
            return False
        if (runner := runner_of(row)) is not None:
            raise busy(thread_id, runner)
        new = await _without_work(database, serde, thread_id, row["head"])
        if new is None:
            return False
        if await _stored(database, new, row):
            return True
    raise ThreadBusy(f"Thread {thread_id!r} keeps changing hands. Look at it with `runtime threads`.")


async def _without_work(
    database: Database, serde: SerializerProtocol, thread_id: str, head: str
) -> NewCheckpoint | None:
    """The checkpoint after the head that stands before nothing; `None` if that one does already."""
    row = await database.autocommit(lambda conn: running.checkpoint(conn, database.schema, thread_id, "", head))
    found = checkpoint_tuple(serde, dict(row)) if row is not None else None
    if found is None or not is_parked(found.checkpoint):
        return None
    checkpoint, metadata = cancelled(found)
    where = Where(thread_id, "", checkpoint["id"])
    stored, _ = checkpoint_row(serde, checkpoint, metadata, {}, where, await digest_key(database, serde))
    return NewCheckpoint(thread_id, "", checkpoint["id"], head, stored)


async def _stored(database: Database, new: NewCheckpoint, row: asyncpg.Record) -> bool:
    async def store(conn: Connection) -> bool:
        async with conn.transaction(isolation="read_committed"):
            now = await versions.lock(conn, database.schema, new.thread_id)
            if now is None or now["token"] != row["token"]:
                return False
            if not await put_outside(conn, database.schema, new, None, continues=True):
                return False
            await versions.cancelled(conn, database.schema, new.thread_id)
            return True

    return await database.autocommit(store)
