"""Deleting, copying and pruning threads, while they may be running.

Everything that a run stores, it stores in a statement that holds a lock on the row of its thread: FOR SHARE, or by
updating it. So what deletes takes that lock first, in a statement of its own; when it has it, whatever the run was
storing is committed, and the statements after it see that, since each takes a new snapshot (READ COMMITTED). What the
run stores later finds no row with its token. A thread that is deleted may be about to begin: its row is made first, so
that there is one to lock.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg

from superstep.checkpointer.langgraph.codec import load_payload
from superstep.checkpointer.langgraph.encryption import Where, encrypts
from superstep.checkpointer.langgraph.keys import DELTA_COUNTERS
from superstep.checkpointer.threads.queries import maintenance
from superstep.checkpointer.threads.reseal import reseal
from superstep.runtime.faults import ConfigError, InputInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["copy_thread", "delete_runs", "delete_threads", "keep_latest", "prune"]


async def delete_threads(database: Database, thread_ids: Sequence[str]) -> None:
    """Delete threads with all that belongs to them. A run that is under way stores nothing more."""

    async def delete(conn: Connection) -> None:
        async with conn.transaction(isolation="read_committed"):
            await maintenance.hold_threads(conn, database.schema, thread_ids)
            await maintenance.delete_threads(conn, database.schema, thread_ids)

    await database.autocommit(delete)


async def delete_runs(database: Database, run_ids: Sequence[str]) -> None:
    """Delete the checkpoints whose metadata names one of the runs, and what only they needed.

    As in LangGraph's own savers, a checkpoint of a later run keeps its own values; its parent link ends there.
    """
    schema = database.schema

    async def delete(conn: Connection) -> None:
        async with conn.transaction(isolation="read_committed"):
            found = await maintenance.checkpoints_of_runs(conn, schema, run_ids)
            await maintenance.lock_threads(conn, schema, sorted({row["thread_id"] for row in found}))
            doomed: dict[str, list[tuple[str, str]]] = defaultdict(list)
            for row in await maintenance.checkpoints_of_runs(conn, schema, run_ids):  # what was committed meanwhile too
                doomed[row["thread_id"]].append((row["ns"], row["checkpoint_id"]))
            for thread_id, checkpoints in doomed.items():
                await maintenance.delete_checkpoints(conn, schema, thread_id, checkpoints)
                if not await maintenance.chain(conn, schema, thread_id):
                    await maintenance.delete_threads(conn, schema, [thread_id])

    await database.autocommit(delete)


async def copy_thread(database: Database, serde: SerializerProtocol, source: str, target: str) -> None:
    """Copy everything, the whole parent chain included, so that forks and delta channels work in the copy.

    What is encrypted is bound to its thread, and encrypted anew for the copy.

    Raises:
        InputInvalid: there is a thread of the target's id.
    """
    try:
        async with database.connections.borrow() as conn, conn.transaction():
            await maintenance.copy_thread(conn, database.schema, source, target)
            if encrypts(serde):
                await reseal(conn, database.schema, serde, source, target)
    except asyncpg.UniqueViolationError:
        raise InputInvalid(
            f"Thread {target!r} exists already, and a copy would mix two histories. Nothing was copied: give another "
            f"id, or delete that thread."
        ) from None


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
        await database.autocommit(partial(_prune, schema=database.schema, serde=serde, thread_id=thread_id))


async def _prune(conn: Connection, *, schema: str, serde: SerializerProtocol, thread_id: str) -> None:
    async with conn.transaction(isolation="read_committed"):
        await maintenance.lock_threads(conn, schema, [thread_id])
        await keep_latest(conn, schema, serde, thread_id)


async def keep_latest(conn: Connection, schema: str, serde: SerializerProtocol, thread_id: str) -> None:
    """Delete what the latest checkpoints of a thread do not need. Call it in a transaction, under `lock_threads`."""
    chain = await maintenance.chain(conn, schema, thread_id)
    kept = _needed(serde, thread_id, chain)
    doomed = [(r["ns"], r["checkpoint_id"]) for r in chain if (r["ns"], r["checkpoint_id"]) not in kept]
    await maintenance.delete_checkpoints(conn, schema, thread_id, doomed)


def _needed(serde: SerializerProtocol, thread_id: str, chain: Sequence[Any]) -> set[tuple[str, str]]:
    """The latest checkpoint of each namespace, with the ancestors that its delta channels are rebuilt from."""
    rows = {(row["ns"], row["checkpoint_id"]): row for row in chain}
    heads: dict[str, Any] = {}
    for row in chain:  # the head of the thread, which need not be the newest by its id, then the newest
        heads.setdefault(row["ns"], row)
    kept: set[tuple[str, str]] = set()
    for ns, head in heads.items():
        kept.add((ns, head["checkpoint_id"]))
        missing = _valueless(serde, thread_id, head)
        cursor = rows.get((ns, head["parent_id"]))
        while missing and cursor is not None:
            kept.add((ns, cursor["checkpoint_id"]))
            missing -= _values(serde, thread_id, cursor)
            cursor = rows.get((ns, cursor["parent_id"]))
    return kept


def _valueless(serde: SerializerProtocol, thread_id: str, row: Any) -> set[str]:
    """Channels that have a version but no value in this checkpoint, and are delta channels by LangGraph's counters.

    An ordinary channel that was emptied also has a version and no value, but no counter.
    """
    counters = json.loads(row["metadata"]).get(DELTA_COUNTERS) or {}
    return set(counters) - _values(serde, thread_id, row)


def _values(serde: SerializerProtocol, thread_id: str, row: Any) -> set[str]:
    where = Where(thread_id, row["ns"], row["checkpoint_id"])
    _, inline = load_payload(serde, row["kind"], row["payload"], where)
    return set(row["channels"]) | set(inline)
