"""Looking back: lists of checkpoints, threads and super-steps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.langgraph.codec import checkpoint_tuple
from superstep.checkpointer.langgraph.encryption import HIDDEN, encrypts, metadata_filter, opened_json, opened_text
from superstep.checkpointer.langgraph.ids import checkpoint_of, namespace_of, thread_of
from superstep.checkpointer.langgraph.metadata import filter_json
from superstep.checkpointer.threads.digest_key import digest_key
from superstep.checkpointer.threads.queries import history
from superstep.checkpointer.threads.summaries import LatestRun, StepRecord, ThreadSummary
from superstep.runtime.faults import ValueNotAuthentic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import asyncpg
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database

__all__ = ["latest_run", "list_checkpoints", "steps", "threads", "withdrawn"]

_PAGE = 50
_COLUMNS_OF_CALL = ("node", "outcome", "model", "input_tokens", "output_tokens", "usd")


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
        before=checkpoint_of(before["configurable"]) if before else None,
        metadata=metadata_filter(await _key(database, serde) if metadata else None, filter_json(metadata)),
    )
    remaining = limit
    while remaining is None or remaining > 0:
        page = _PAGE if remaining is None else min(_PAGE, remaining)
        # Ids are unique within a thread only: a page across threads could end between two equal ones.
        size = page if thread_id is not None else remaining
        rows = await database.home.call(_page(database, wanted, size))
        for row in rows:
            yield checkpoint_tuple(serde, dict(row))
        if thread_id is None or len(rows) < page:
            return
        wanted = wanted._replace(before=rows[-1]["checkpoint_id"])
        remaining = None if remaining is None else remaining - len(rows)


async def _key(database: Database, serde: SerializerProtocol) -> bytes | None:
    return await database.home.call(digest_key(database, serde)) if encrypts(serde) else None


async def _page(database: Database, wanted: history.Wanted, size: int | None) -> list[asyncpg.Record]:
    return list(await database.autocommit(lambda conn: history.checkpoints(conn, database.schema, wanted, size)))


async def threads(
    database: Database, serde: SerializerProtocol, thread_id: str | None, limit: int | None
) -> list[ThreadSummary]:
    """One thread or all, the most recently changed first."""
    rows = await database.autocommit(lambda conn: history.threads(conn, database.schema, thread_id, limit))
    return [ThreadSummary(**{**dict(row), "error": _error(serde, row["thread_id"], row["error"])}) for row in rows]


async def withdrawn(database: Database, thread_id: str) -> int:
    """How many questions of a thread were withdrawn."""
    return len(await database.autocommit(lambda conn: history.asked_again(conn, database.schema, thread_id)))


def _error(serde: SerializerProtocol, thread_id: str, held: str | None) -> str | None:
    """What a run ended with. One that cannot be read does not take the list of all threads away."""
    try:
        return None if held is None else opened_text(serde, held, "error", thread_id)
    except ValueNotAuthentic:
        return HIDDEN


async def latest_run(database: Database, serde: SerializerProtocol, thread_id: str) -> LatestRun:
    """What the latest run of a thread did and cost."""
    schema = database.schema
    found = await threads(database, serde, thread_id, 1)
    since = await database.autocommit(lambda conn: history.last_input(conn, schema, thread_id))
    return LatestRun(
        thread=found[0] if found else None,
        steps=await steps(database, serde, thread_id, since),
        usage=await database.autocommit(lambda conn: history.usage(conn, schema, thread_id, since)),
        asked_again=set(await database.autocommit(lambda conn: history.asked_again(conn, schema, thread_id))),
    )


async def steps(
    database: Database, serde: SerializerProtocol, thread_id: str, since: str | None = None
) -> list[StepRecord]:
    """Committed super-steps, oldest first, of the whole thread or after a checkpoint."""
    rows = await database.autocommit(lambda conn: history.steps(conn, database.schema, thread_id, since))
    return [
        StepRecord(
            step=json.loads(row["metadata"]).get("step", 0),
            checkpoint_id=row["checkpoint_id"],
            checkpoint_ns=row["ns"],
            llm_paid=row["llm_paid"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            usd=row["usd"],
            calls=[_call(serde, thread_id, row["ns"], call) for call in json.loads(row["calls"])],
            committed_at=row["created_at"],
            **{"prompts": [], **opened_json(serde, json.loads(row["stats"]), "stats", thread_id, *_at(row))},
        )
        for row in rows
    ]


def _at(row: asyncpg.Record) -> tuple[str, str]:
    return row["ns"], row["checkpoint_id"]


def _call(serde: SerializerProtocol, thread_id: str, ns: str, held: dict[str, Any]) -> dict[str, Any]:
    """The record of a call: what its own columns say stands."""
    if not encrypts(serde):
        return opened_json(serde, held, "call")
    columns = {name: held[name] for name in _COLUMNS_OF_CALL}
    return {**opened_json(serde, held, "call", thread_id, ns, held["node"]), **columns}
