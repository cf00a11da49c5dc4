"""Looking back: lists of checkpoints, threads and super-steps, and what rebuilds delta channels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import CheckpointTuple, DeltaChannelHistory, PendingWrite

from superstep.checkpointer.langgraph.codec import checkpoint_tuple, load_payload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Engine

__all__ = [
    "StepRecord",
    "ThreadSummary",
    "asked_again",
    "delta_history",
    "last_input",
    "list_checkpoints",
    "steps",
    "threads",
    "usage",
]

_PAGE = 50


@dataclass(frozen=True, slots=True)
class ThreadSummary:
    """One thread. `steps` counts its committed super-steps; `status` is how its last run ended."""

    thread_id: str
    graph: str | None
    status: str
    error: str | None
    steps: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One committed super-step.

    Attributes:
        step: LangGraph's number of it.
        nodes: names of the nodes that ran.
        checkpoint_id: the checkpoint it committed.
        checkpoint_ns: "" for the graph itself, else the subgraph's namespace.
        attempts: how often it was tried, 1 without conflicts.
        repairs: commits that had to be repeated although no fact had changed.
        drifts: tasks that had to run again because their facts had changed.
        escalated: it took exclusive turns.
        commit: "direct" in the transaction of its reads, or "replay" in a later one that repeated them.
        reads: reads that the commit validated.
        writes: staged writes that it applied.
        prompts: named versions that its tasks used, such as "verify@3".
        llm_paid: calls of language models that were answered, over all attempts.
        llm_reused: answers served again instead.
        input_tokens: of all calls.
        output_tokens: of all calls.
        usd: what they cost, as far as prices are known; 0 for offline models, `None` where none is known.
        calls: the record of each call, failed ones included, oldest first: `node`, `outcome`, `model`, `input_tokens`,
            `output_tokens`, `usd`, and what else its maker recorded: `route`, `deployment`, `tried`, `ms`, …
        ms: milliseconds from its first activity to its commit, over all attempts.
        committed_at: when, by the database's clock.
    """

    step: int
    nodes: list[str]
    checkpoint_id: str
    checkpoint_ns: str
    attempts: int
    repairs: int
    drifts: int
    escalated: bool
    commit: str
    reads: int
    writes: int
    prompts: list[str]
    llm_paid: int
    llm_reused: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    calls: list[dict[str, Any]]
    ms: float
    committed_at: datetime


async def list_checkpoints(
    engine: Engine,
    serde: SerializerProtocol,
    config: RunnableConfig | None,
    metadata: Mapping[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> AsyncIterator[CheckpointTuple]:
    """Checkpoints, newest first. Read in pages, so that a consumer that stops early costs little."""
    conf: Mapping[str, Any] = config["configurable"] if config else {}
    thread_id = conf.get("thread_id")
    cursor = before["configurable"].get("checkpoint_id") if before else None
    remaining = limit
    while remaining is None or remaining > 0:
        size = _PAGE if remaining is None else min(_PAGE, remaining)
        args = (
            str(thread_id) if thread_id is not None else None,
            conf.get("checkpoint_ns"),
            conf.get("checkpoint_id"),
            cursor,
            json.dumps(dict(metadata or {})),
            # Ids are unique within a thread only: a page across threads could end between two equal ones.
            size if thread_id is not None else remaining,
        )
        rows = await engine.on_loop(_fetch(engine, "list", *args))
        for row in rows:
            yield checkpoint_tuple(serde, dict(row))
        if thread_id is None or len(rows) < size:
            return
        cursor = rows[-1]["checkpoint_id"]
        remaining = None if remaining is None else remaining - len(rows)


async def _fetch(engine: Engine, name: str, *args: Any) -> list[Any]:
    return list(await engine.autocommit(lambda conn: conn.fetch(engine.sql[name], *args)))


async def delta_history(
    engine: Engine, serde: SerializerProtocol, config: RunnableConfig, channels: Sequence[str]
) -> dict[str, DeltaChannelHistory]:
    """Per channel: writes along the parent chain, oldest first, and the value stored at the nearest ancestor.

    The chain of the parents is followed, not the order of ids, so a fork sees its own past only. Three round trips,
    however long the chain is.
    """
    conf = config["configurable"]
    thread_id, ns = str(conf["thread_id"]), conf.get("checkpoint_ns", "")
    if not channels:
        return {}
    checkpoint_id = conf.get("checkpoint_id")
    if checkpoint_id is None:
        newest = await _fetch(engine, "get_latest", thread_id, ns)
        checkpoint_id = newest[0]["checkpoint_id"] if newest else None
    ancestors = await _fetch(engine, "ancestors", thread_id, ns, checkpoint_id)
    seeds, reach = _nearest_values(serde, ancestors, channels)
    stored = {c: v for c, (kind, v) in seeds.items() if kind == "stored"}
    values = {c: v for c, (kind, v) in seeds.items() if kind == "inline"}
    for row in await _fetch(engine, "values_at", thread_id, ns, list(stored), list(stored.values())):
        values[row["channel"]] = serde.loads_typed((row["kind"], row["value"]))
    ids = [row["checkpoint_id"] for row in ancestors[: max(reach.values(), default=-1) + 1]]
    writes: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    depth = {checkpoint: n for n, checkpoint in enumerate(ids)}
    rows = await _fetch(engine, "delta_writes", thread_id, ns, ids, list(channels))
    for row in sorted(rows, key=lambda r: -depth[r["checkpoint_id"]]):  # stable: keeps the order within a checkpoint
        if depth[row["checkpoint_id"]] <= reach[row["channel"]]:
            value = serde.loads_typed((row["kind"], row["value"]))
            writes[row["channel"]].append((row["task_id"], row["channel"], value))
    return {
        channel: DeltaChannelHistory(writes=writes[channel], seed=values[channel])
        if channel in values
        else DeltaChannelHistory(writes=writes[channel])
        for channel in channels
    }


def _nearest_values(
    serde: SerializerProtocol, ancestors: Sequence[Any], channels: Sequence[str]
) -> tuple[dict[str, tuple[str, Any]], dict[str, int]]:
    """Per channel where its nearest stored value is, and how many ancestors up its writes count."""
    seeds: dict[str, tuple[str, Any]] = {}
    reach = dict.fromkeys(channels, len(ancestors) - 1)
    for depth, row in enumerate(ancestors):
        if len(seeds) == len(set(channels)):
            break
        references = dict(zip(row["channels"], row["versions"], strict=True))
        _, inline = load_payload(serde, row["kind"], row["payload"])
        for channel in channels:
            if channel in seeds:
                continue
            if channel in references:
                seeds[channel] = ("stored", references[channel])
            elif channel in inline:
                seeds[channel] = ("inline", inline[channel])
            else:
                continue
            reach[channel] = depth
    return seeds, reach


async def threads(engine: Engine, thread_id: str | None, limit: int | None) -> list[ThreadSummary]:
    """One thread or all, the most recently changed first."""
    rows = await _fetch(engine, "threads", thread_id, limit)
    return [ThreadSummary(**dict(row)) for row in rows]


async def last_input(engine: Engine, thread_id: str) -> str | None:
    """The checkpoint that the thread's latest run began with."""
    rows = await _fetch(engine, "last_input", thread_id)
    return str(rows[0][0]) if rows[0][0] else None


async def usage(engine: Engine, thread_id: str, since: str | None) -> dict[str, Any]:
    """Paid calls, tokens and cost since a checkpoint; `offline` if no real model was among them."""
    rows = await _fetch(engine, "usage", thread_id, since)
    return dict(rows[0])


async def steps(engine: Engine, thread_id: str, since: str | None = None) -> list[StepRecord]:
    """Committed super-steps, oldest first, of the whole thread or after a checkpoint."""
    rows = await _fetch(engine, "steps", thread_id, since)
    return [
        StepRecord(
            step=json.loads(row["metadata"]).get("step", 0),
            checkpoint_id=row["checkpoint_id"],
            checkpoint_ns=row["ns"],
            llm_paid=row["llm_paid"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            usd=row["usd"],
            calls=json.loads(row["calls"]),
            committed_at=row["created_at"],
            **{"prompts": [], **json.loads(row["stats"])},
        )
        for row in rows
    ]


async def asked_again(engine: Engine, thread_id: str) -> set[str]:
    """Ids of tasks that ask a human anew because the facts they had shown moved."""
    rows = await _fetch(engine, "asked_again", thread_id)
    return set(rows[0][0])
