"""What is told of threads, their super-steps and their latest run.

Without a serializer nothing of LangGraph is imported, so that a listing is quick; of what is encrypted it shows what
can be read without a key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.langgraph.sealed import HIDDEN, readable_json, readable_text
from superstep.checkpointer.threads.liveness import located
from superstep.checkpointer.threads.queries import history
from superstep.checkpointer.threads.summaries import PARKED, LatestRun, StepRecord, ThreadSummary, runner_of
from superstep.runtime.faults import ValueNotAuthentic

if TYPE_CHECKING:
    from datetime import timedelta

    import asyncpg
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database

__all__ = [
    "Chosen",
    "chosen_threads",
    "last_input",
    "latest_run",
    "step_ids",
    "steps",
    "thread",
    "thread_ids",
    "threads",
    "traceparent",
    "withdrawn",
]

_OF_THREAD = ("thread_id", "graph", "version", "status", "steps", "created_at", "updated_at")
_OF_STEP = frozenset(each.name for each in fields(StepRecord))
_OF_CALL = ("node", "outcome", "model", "input_tokens", "output_tokens", "usd")


async def thread(database: Database, serde: SerializerProtocol | None, thread_id: str) -> ThreadSummary | None:
    """One thread."""
    rows = await database.autocommit(lambda conn: history.thread(conn, database.schema, thread_id))
    await located()
    return _summary(serde, rows[0]) if rows else None


async def threads(
    database: Database, serde: SerializerProtocol | None, limit: int | None, after: ThreadSummary | None
) -> list[ThreadSummary]:
    """Threads, the most recently changed first, after one as it was listed."""
    last = (after.updated_at, after.thread_id) if after is not None else None
    rows = await database.autocommit(lambda conn: history.threads(conn, database.schema, limit, last))
    await located()
    return [_summary(serde, row) for row in rows]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which threads are meant: those of which all of this is so.

    Attributes:
        graph: it is of this graph.
        version: it was run last with this version of it.
        status: its last run has ended so.
        unchanged_for: it has not changed for so long.
        parked: its last run has not come to its end, and nobody runs it.
    """

    graph: str | None = None
    version: str | None = None
    status: str | None = None
    unchanged_for: timedelta | None = None
    parked: bool = False

    def as_columns(self) -> tuple[Any, ...]:
        """As the statement takes it."""
        statuses = list(PARKED) if self.parked else None
        if self.status is not None:
            statuses = [self.status] if statuses is None or self.status in statuses else []
        return self.graph, self.version, statuses, self.unchanged_for


async def chosen_threads(
    database: Database,
    serde: SerializerProtocol | None,
    chosen: Chosen,
    limit: int | None,
    after: ThreadSummary | None,
) -> list[ThreadSummary]:
    """Threads that are meant, the most recently changed first. Those that are run are told by their processes."""
    found: list[ThreadSummary] = []
    columns = chosen.as_columns()
    while True:
        last = (after.updated_at, after.thread_id) if after is not None else None
        page = partial(history.threads_where, schema=database.schema, limit=limit, after=last, chosen=columns)
        rows = await database.autocommit(page)
        read = [_summary(serde, row) for row in rows]
        found += [each for each in read if each.is_parked or not chosen.parked]
        if limit is None or len(rows) < limit or len(found) >= limit:
            return found[:limit]
        after = read[-1]


async def thread_ids(database: Database, beginning: str, most: int) -> list[str]:
    """Ids of threads that begin so, in their order."""
    found = await database.autocommit(lambda conn: history.ids_from(conn, database.schema, beginning, most))
    return [each for each in found if each.startswith(beginning)]  # in the order of bytes these come first


async def step_ids(database: Database, thread_id: str, beginning: str, most: int) -> list[str]:
    """Checkpoints of committed super-steps of a thread, whose ids begin so, in their order."""
    schema = database.schema
    found = await database.autocommit(lambda conn: history.steps_from(conn, schema, thread_id, beginning, most))
    return [each for each in found if each.startswith(beginning)]


async def withdrawn(database: Database, thread_id: str) -> int:
    """How many questions of a thread were withdrawn."""
    return len(await database.autocommit(lambda conn: history.asked_again(conn, database.schema, thread_id)))


async def last_input(database: Database, thread_id: str) -> str | None:
    """The checkpoint that the latest run of a thread began with."""
    return await database.autocommit(lambda conn: history.last_input(conn, database.schema, thread_id))


async def traceparent(database: Database, thread_id: str) -> str | None:
    """Which trace the latest run of a thread belongs to."""
    return await database.autocommit(lambda conn: history.traceparent(conn, database.schema, thread_id))


async def latest_run(database: Database, serde: SerializerProtocol | None, thread_id: str) -> LatestRun:
    """What the latest run of a thread did and cost."""
    schema = database.schema
    found = await thread(database, serde, thread_id)
    since = await database.autocommit(lambda conn: history.last_input(conn, schema, thread_id))
    return LatestRun(
        thread=found,
        steps=await steps(database, serde, thread_id, since=since),
        usage=await database.autocommit(lambda conn: history.usage(conn, schema, thread_id, since)),
        asked_again=set(await database.autocommit(lambda conn: history.asked_again(conn, schema, thread_id))),
    )


async def steps(
    database: Database,
    serde: SerializerProtocol | None,
    thread_id: str,
    *,
    since: str | None = None,
    limit: int | None = None,
) -> list[StepRecord]:
    """Committed super-steps, oldest first: the latest, of the whole thread or after a checkpoint."""
    rows = await database.autocommit(lambda conn: history.steps(conn, database.schema, thread_id, since, limit))
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
            **_stats(_json(serde, json.loads(row["stats"]), "stats", thread_id, *_at(row))),
        )
        for row in rows
    ]


def _stats(held: dict[str, Any]) -> dict[str, Any]:
    """Of what a record holds, what is told of the super-step; the rest is for measures."""
    return {
        "prompts": [],
        "guards": [],
        "waited_ms": 0.0,
        "resolved": 0,
        **{name: held[name] for name in held if name in _OF_STEP},
    }


def _summary(serde: SerializerProtocol | None, row: asyncpg.Record) -> ThreadSummary:
    return ThreadSummary(
        **{name: row[name] for name in _OF_THREAD},
        error=_error(serde, row["thread_id"], row["error"]),
        runner=runner_of(row),
    )


def _at(row: asyncpg.Record) -> tuple[str, str]:
    return row["ns"], row["checkpoint_id"]


def _error(serde: SerializerProtocol | None, thread_id: str, held: str | None) -> str | None:
    """What a run ended with. One that cannot be read does not take the list of all threads away."""
    if held is None or serde is None:
        return None if held is None else readable_text(held)
    from superstep.checkpointer.langgraph.encryption import opened_text

    try:
        return opened_text(serde, held, "error", thread_id)
    except ValueNotAuthentic:
        return HIDDEN


def _json(serde: SerializerProtocol | None, held: dict[str, Any], column: str, *key: str) -> dict[str, Any]:
    if serde is None:
        return readable_json(held)
    from superstep.checkpointer.langgraph.encryption import opened_json

    return opened_json(serde, held, column, *key)


def _call(serde: SerializerProtocol | None, thread_id: str, ns: str, held: dict[str, Any]) -> dict[str, Any]:
    """The record of a call: what its own columns say stands."""
    return {**_json(serde, held, "call", thread_id, ns, held["node"]), **{name: held[name] for name in _OF_CALL}}
