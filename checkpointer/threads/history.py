"""Lists of checkpoints, for LangGraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.langgraph.codec import checkpoint_tuple
from superstep.checkpointer.langgraph.encryption import encrypts, metadata_filter
from superstep.checkpointer.langgraph.ids import checkpoint_of, namespace_of, thread_of
from superstep.checkpointer.langgraph.metadata import filter_json
from superstep.checkpointer.threads.digest_key import digest_key
from superstep.checkpointer.threads.queries import history

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import asyncpg
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database

__all__ = ["list_checkpoints"]

_PAGE = 50


async def list_checkpoints(
    database: Database,
    serde: SerializerProtocol,
    config: RunnableConfig | None,
    metadata: Mapping[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> AsyncIterator[CheckpointTuple]:
    """Checkpoints, newest first. Read in pages, so that a consumer that stops early costs little."""
    conf: Mapping[str, Any] = config["configurable"] if config else {}
    thread_id = thread_of(conf) if conf.get("thread_id") is not None else None
    wanted = history.Wanted(
        thread_id=thread_id,
        ns=namespace_of(conf) if conf.get("checkpoint_ns") is not None else None,
        checkpoint_id=checkpoint_of(conf),
        below=checkpoint_of(before["configurable"]) if before else None,
        metadata=metadata_filter(await _key(database, serde) if metadata else None, filter_json(metadata)),
    )
    remaining = limit
    while remaining is None or remaining > 0:
        page = _PAGE if remaining is None else min(_PAGE, remaining)
        rows = await database.home.call(_page(database, wanted, page))
        for row in rows[:page]:
            yield checkpoint_tuple(serde, dict(row))
        if len(rows) < page or wanted.checkpoint_id is not None:
            return
        last = rows[-1]
        # Ids are unique within a thread only: of all threads, a page may end between two equal ones.
        wanted = wanted._replace(below=last["checkpoint_id"], below_at=(last["thread_id"], last["ns"]))
        remaining = None if remaining is None else remaining - len(rows)


async def _key(database: Database, serde: SerializerProtocol) -> bytes | None:
    return await database.home.call(digest_key(database, serde)) if encrypts(serde) else None


async def _page(database: Database, wanted: history.Wanted, size: int) -> list[asyncpg.Record]:
    return list(await database.autocommit(lambda conn: history.checkpoints(conn, database.schema, wanted, size)))
