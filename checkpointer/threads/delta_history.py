"""What rebuilds LangGraph's delta channels: their writes along the parent chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite

from superstep.checkpointer.langgraph.codec import load_payload, values_of, write_at
from superstep.checkpointer.langgraph.encryption import Where
from superstep.checkpointer.langgraph.ids import namespace_of, thread_of
from superstep.checkpointer.langgraph.keys import DELTA_COUNTERS
from superstep.checkpointer.threads.queries import history, running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import asyncpg
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import Checkpoint
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["delta_history", "standing_snapshots"]


async def standing_snapshots(
    database: Database,
    where: Where,
    checkpoint: Checkpoint,
    metadata: Mapping[str, Any],
    new_versions: Mapping[str, Any],
) -> dict[str, str]:
    """The delta channels whose last snapshot is their value still, with the version that it is stored by.

    LangGraph does not give their values to the checkpoints after that which made the snapshot. One that has them is
    loaded without the chain behind it.
    """
    if not (counters := metadata.get(DELTA_COUNTERS)):
        return {}
    versions = checkpoint["channel_versions"]
    idle = {
        channel: str(versions[channel])
        for channel, (updates, _) in counters.items()
        if not updates and channel in versions
        if channel not in new_versions and channel not in checkpoint["channel_values"]
    }
    if not idle:
        return {}
    at = (database.schema, where.thread_id, where.ns, idle)
    found = await database.home.call(database.autocommit(lambda conn: history.versions_at(conn, *at)))
    return {row["channel"]: row["version"] for row in found}


async def delta_history(
    database: Database, serde: SerializerProtocol, config: RunnableConfig, channels: Sequence[str]
) -> dict[str, DeltaChannelHistory]:
    """Per channel: writes along the parent chain, oldest first, and the value stored at the nearest ancestor.

    The chain of the parents is followed, not the order of ids, so a fork sees its own past only. A few round trips,
    however long the chain is.
    """
    if not channels:
        return {}
    return await database.autocommit(lambda conn: _delta_history(conn, database.schema, serde, config, channels))


async def _delta_history(
    conn: Connection, schema: str, serde: SerializerProtocol, config: RunnableConfig, channels: Sequence[str]
) -> dict[str, DeltaChannelHistory]:
    conf = config["configurable"]
    thread_id, ns = thread_of(conf), namespace_of(conf)
    checkpoint_id = conf.get("checkpoint_id")
    if checkpoint_id is None:
        newest = await running.checkpoint(conn, schema, thread_id, ns, None)
        checkpoint_id = newest["checkpoint_id"] if newest else None
    ancestors = await history.ancestors(conn, schema, thread_id, ns, checkpoint_id)
    seeds, reach = _nearest_values(serde, (thread_id, ns), ancestors, channels)
    stored = {c: v for c, (kind, v) in seeds.items() if kind == "stored"}
    values = {c: v for c, (kind, v) in seeds.items() if kind == "inline"}
    row = await history.values_at(conn, schema, thread_id, ns, stored)
    values.update((c, value) for c, (value, _) in values_of(serde, Where(thread_id, ns), stored, dict(row)).items())
    ids = [row["checkpoint_id"] for row in ancestors[: max(reach.values(), default=-1) + 1]]
    rows = await history.delta_writes(conn, schema, thread_id, ns, ids, list(channels))
    writes = _writes_within(serde, (thread_id, ns), rows, {checkpoint: n for n, checkpoint in enumerate(ids)}, reach)
    return {
        channel: DeltaChannelHistory(writes=writes[channel], seed=values[channel])
        if channel in values
        else DeltaChannelHistory(writes=writes[channel])
        for channel in channels
    }


def _writes_within(
    serde: SerializerProtocol,
    graph: tuple[str, str],
    rows: Sequence[asyncpg.Record],
    depth: Mapping[str, int],
    reach: Mapping[str, int],
) -> dict[str, list[PendingWrite]]:
    """Per channel the writes of the ancestors within its reach, oldest first."""
    writes: dict[str, list[PendingWrite]] = {channel: [] for channel in reach}
    for row in sorted(rows, key=lambda r: -depth[r["checkpoint_id"]]):  # stable: keeps the order within a checkpoint
        if depth[row["checkpoint_id"]] <= reach[row["channel"]]:
            where = Where(*graph, row["checkpoint_id"])
            place = write_at(serde, where, row["task_id"], row["idx"], row["task_path"], row["channel"])
            value = place.loads_typed((row["kind"], row["value"]))
            writes[row["channel"]].append((row["task_id"], row["channel"], value))
    return writes


def _nearest_values(
    serde: SerializerProtocol, graph: tuple[str, str], ancestors: Sequence[Any], channels: Sequence[str]
) -> tuple[dict[str, tuple[str, Any]], dict[str, int]]:
    """Per channel where its nearest stored value is, and how many ancestors up its writes count."""
    seeds: dict[str, tuple[str, Any]] = {}
    reach = dict.fromkeys(channels, len(ancestors) - 1)
    for depth, row in enumerate(ancestors):
        if len(seeds) == len(set(channels)):
            break
        references = dict(zip(row["channels"], row["versions"], strict=True))
        body, inline = load_payload(serde, row["kind"], row["payload"], Where(*graph, row["checkpoint_id"]))
        for channel in channels:
            if channel in seeds:
                continue
            if channel in references:
                seeds[channel] = ("stored", str(body["channel_versions"].get(channel, references[channel])))
            elif channel in inline:
                seeds[channel] = ("inline", inline[channel])
            else:
                continue
            reach[channel] = depth
    return seeds, reach
