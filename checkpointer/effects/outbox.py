"""What people do with effects: look at them, try dead ones again, drop some, have delivered ones undone.

Each changes the state of one row if it is in a state that allows it, and tells the workers in the same transaction. Of
two callers who want the same the second one finds it changed already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from superstep.checkpointer.effects import queries
from superstep.checkpointer.effects.delivery import job_for, tell_next
from superstep.checkpointer.effects.queue import Queue
from superstep.runtime.faults import EffectNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    import asyncpg

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["Outbox", "OutboxEffect"]

_DEAD = ("dead", "stuck")


@dataclass(frozen=True, slots=True)
class OutboxEffect:
    """An effect in the outbox.

    Attributes:
        number: in the order in which they were put, of all effects.
        id: its identity.
        topic: see `Step.emit`.
        key: see `Step.emit`.
        state: waiting, delivered, dead (delivery was given up), dropped, kept (see `stands_for`), undoing (waits for
            its compensation), undone, stuck (the compensation was given up).
        thread_id: the thread that emitted it.
        node: the node.
        attempts: since it was put, or tried again by hand.
        failure: what the latest attempt ended with, if it failed.
        stands_for: of one that was kept: the one from another branch of the thread that counts in its place.
        created_at: when it was put.
        changed_at: when its state changed.
    """

    number: int
    id: str
    topic: str
    key: str | None
    state: str
    thread_id: str
    node: str
    attempts: int
    failure: str | None
    stands_for: str | None
    created_at: datetime
    changed_at: datetime


class Outbox:
    """The effects in the schema of a saver.

    Args:
        database: of the saver.
        shown: makes readable what is stored of a text, as far as that can be read.
    """

    def __init__(self, database: Database, shown: Callable[[str, str], str]) -> None:
        self._database, self._shown, self._queue = database, shown, Queue(database)

    async def effects(self, *, dead: bool = False, before: int | None = None, limit: int = 100) -> list[OutboxEffect]:
        """Effects, newest first.

        Args:
            dead: only those that were given up.
            before: only those with a smaller number: that of the last one of the page before.
            limit: how many at most.
        """
        schema, states = self._database.schema, list(_DEAD) if dead else None
        rows = await self._database.autocommit(lambda conn: queries.listing(conn, schema, states, before, limit))
        return [self._entry(row) for row in rows]

    async def retry(self, effect_id: str) -> str:
        """Have one that was given up delivered, or undone, after all: its new state.

        Raises:
            EffectNotFound: it is not there, or was not given up.
        """
        return await self._change(effect_id, {"dead": "waiting", "stuck": "undoing"}, "tried again")

    async def drop(self, effect_id: str) -> str:
        """Have one never delivered, and let those behind it in its line pass: its new state.

        Raises:
            EffectNotFound: it is not there, was delivered, or is being delivered right now.
        """
        return await self._change(effect_id, {"waiting": "dropped", "dead": "dropped"}, "dropped")

    async def undo(self, effect_id: str) -> str:
        """Have a delivered one compensated by the `undo` of its handler: its new state. A worker does it.

        Raises:
            EffectNotFound: it is not there, was not delivered, or is being undone already.
        """
        return await self._change(effect_id, {"delivered": "undoing"}, "undone")

    async def _change(self, effect_id: str, states: Mapping[str, str], verb: str) -> str:
        schema, queue = self._database.schema, self._queue

        async def change(conn: Connection) -> str | None:
            async with conn.transaction(isolation="read_committed"):
                state = await queries.change(conn, schema, effect_id, list(states), list(states.values()))
                if state == "dropped":
                    await tell_next(conn, schema, queue, effect_id)
                elif state is not None:
                    await queue.put(conn, [job_for(effect_id)])
            return state

        state = await self._database.autocommit(change)
        if state is None:
            raise await self._refusal(effect_id, verb)
        return state

    async def _refusal(self, effect_id: str, verb: str) -> EffectNotFound:
        row = await self._database.autocommit(lambda conn: queries.look(conn, self._database.schema, effect_id))
        if row is None:
            return EffectNotFound(f"There is no effect {effect_id!r}. `runtime effects list` shows all.")
        now = "a worker is at it right now, so try again later" if row["claimed"] else f"it is {row['state']}"
        return EffectNotFound(f"Effect {effect_id!r} ({row['topic']!r}) cannot be {verb}: {now}.")

    def _entry(self, row: asyncpg.Record) -> OutboxEffect:
        failure = row["failure"]
        return OutboxEffect(
            number=row["seq"],
            id=row["id"],
            topic=row["topic"],
            key=row["key"],
            state=row["state"],
            thread_id=row["thread_id"],
            node=row["node"],
            attempts=row["attempts"],
            failure=None if failure is None else self._shown(failure, row["id"]),
            stands_for=row["stands_for"],
            created_at=row["created_at"],
            changed_at=row["changed_at"],
        )
