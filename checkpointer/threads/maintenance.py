"""Deleting, copying and pruning threads. Each is one transaction that fences the runs it could pull the floor from."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.langgraph.codec import load_payload
from superstep.checkpointer.langgraph.keys import DELTA_COUNTERS
from superstep.checkpointer.threads.queries import maintenance
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database

__all__ = ["copy_thread", "delete_runs", "delete_threads", "prune"]


async def delete_threads(database: Database, thread_ids: Sequence[str]) -> None:
    """Delete threads with all that belongs to them. One statement."""
    async with database.connections.borrow() as conn:
        await maintenance.delete_threads(conn, database.schema, thread_ids)


async def delete_runs(database: Database, run_ids: Sequence[str]) -> None:
    """Delete the checkpoints whose metadata names one of the runs, and what only they needed.

    As in LangGraph's own savers, a checkpoint of a later run keeps its own values; its parent link ends there.
    """
    schema = database.schema
    async with database.connections.borrow() as conn, conn.transaction():
        doomed: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for row in await maintenance.checkpoints_of_runs(conn, schema, run_ids):
            doomed[row["thread_id"]].append((row["ns"], row["checkpoint_id"]))
        for thread_id, checkpoints in doomed.items():
            await maintenance.lock_thread(conn, schema, thread_id)
            await maintenance.delete_checkpoints(conn, schema, thread_id, checkpoints)
            if not await maintenance.chain(conn, schema, thread_id):
                await maintenance.delete_threads(conn, schema, [thread_id])


async def copy_thread(database: Database, source: str, target: str) -> None:
    """Copy everything, the whole parent chain included, so that forks and delta channels work in the copy."""
    async with database.connections.borrow() as conn:
        await maintenance.copy_thread(conn, database.schema, source, target)


async def prune(database: Database, serde: SerializerProtocol, thread_ids: Sequence[str], strategy: str) -> None:
    """Keep the latest checkpoint of each namespace and what it needs ("keep_latest"), or delete all ("delete").

    A delta channel is rebuilt from writes along the parent chain, so the ancestors back to its last snapshot stay.

    Raises:
        ConfigError: another strategy.
    """
    if strategy == "delete":
        await delete_threads(database, thread_ids)
        return
    if strategy != "keep_latest":
        raise ConfigError(f'prune: strategy must be "keep_latest" or "delete", not {strategy!r}.')
    for thread_id in thread_ids:
        async with database.connections.borrow() as conn, conn.transaction():
            # The thread's row first, as every commit does: the same lock order everywhere.
            await maintenance.lock_thread(conn, database.schema, thread_id)
            chain = await maintenance.chain(conn, database.schema, thread_id)
            kept = _needed(serde, chain)
            doomed = [(r["ns"], r["checkpoint_id"]) for r in chain if (r["ns"], r["checkpoint_id"]) not in kept]
            await maintenance.delete_checkpoints(conn, database.schema, thread_id, doomed)


def _needed(serde: SerializerProtocol, chain: Sequence[Any]) -> set[tuple[str, str]]:
    """The newest checkpoint of each namespace, with the ancestors that its delta channels are rebuilt from."""
    rows = {(row["ns"], row["checkpoint_id"]): row for row in chain}
    heads: dict[str, Any] = {}
    for row in chain:  # newest first
        heads.setdefault(row["ns"], row)
    kept: set[tuple[str, str]] = set()
    for ns, head in heads.items():
        kept.add((ns, head["checkpoint_id"]))
        missing = _valueless(serde, head)
        cursor = rows.get((ns, head["parent_id"]))
        while missing and cursor is not None:
            kept.add((ns, cursor["checkpoint_id"]))
            missing -= _values(serde, cursor)
            cursor = rows.get((ns, cursor["parent_id"]))
    return kept


def _valueless(serde: SerializerProtocol, row: Any) -> set[str]:
    """Channels that have a version but no value in this checkpoint, and are delta channels by LangGraph's counters.

    An ordinary channel that was emptied also has a version and no value, but no counter.
    """
    counters = json.loads(row["metadata"]).get(DELTA_COUNTERS) or {}
    return set(counters) - _values(serde, row)


def _values(serde: SerializerProtocol, row: Any) -> set[str]:
    _, inline = load_payload(serde, row["kind"], row["payload"])
    return set(row["channels"]) | set(inline)
