"""Delivering effects: what a worker does with a job that tells of one.

The row of the effect says what is to be done; a job only says where to look. So a job too many does no harm, and each
way of needing one more puts one, in the transaction in which the need arises.

Which interleavings could break it, and what stops them:

*Two workers are told of one effect.* The one that claims the row delivers it. The other one comes back when the claim
has run out, and finds it settled then, or takes it over.

*A worker dies after it has delivered an effect, before it has noted that.* The job comes back when the worker's lease
is over, and the effect is delivered again when its claim is: with the same identity.

*A worker is paused, and its claim runs out.* Another one delivers too. Whichever succeeds settles the effect, also one
that the other has given up; a failure counts only for the attempt that is the latest.

*The effect before it in its line (topic and key) is settled while a worker finds it waiting.* The worker puts this one
aside: its job is done. Whoever settles the one before looks, in the same transaction, for the next in line, and puts a
job for it. If it does not see this one yet, this one's own commit is still to come, with its job. With that a worker
may look before the settlement is committed: so it locks the row of the one before, which waits for that commit, and
looks at it again (`in_line`).

*An effect commits after a later one of its line.* The line is in the order in which the commits that emitted them took
their numbers. A commit that had seen another one's writes has a greater number.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.effects import queries
from superstep.checkpointer.effects.emission import payload_at
from superstep.checkpointer.effects.handlers import Effect, GiveUp, handler_of
from superstep.checkpointer.effects.jobs import Again, Job
from superstep.runtime.masking import storable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import asyncpg

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.effects.emission import Seal
    from superstep.checkpointer.effects.handlers import EffectHandler
    from superstep.checkpointer.effects.queue import Queue

__all__ = ["Deliveries", "job_for"]

_log = logging.getLogger("superstep.effects")

KIND = "effect"
_MARGIN = 5.0  # seconds that noting a delivery may take, beside the time that the delivery may
_MORE = 0.05  # seconds after the end of another worker's claim
_SETTLED = {"waiting": "delivered", "undoing": "undone"}
_GIVEN_UP = {"waiting": "dead", "undoing": "stuck"}


def job_for(effect_id: str) -> Job:
    """Tells workers of an effect."""
    return Job(KIND, effect_id.encode())


class Deliveries:
    """The handler of the queue for jobs of effects.

    Args:
        database: of the saver.
        queue: of the same.
        seal: of the saver.
        hide: makes of a text and the identity of an effect what is stored of the text.
    """

    def __init__(self, database: Database, queue: Queue, seal: Seal, hide: Callable[[str, str], str]) -> None:
        self._database, self._queue, self._seal, self._hide = database, queue, seal, hide

    async def __call__(self, payload: bytes, attempts: int) -> None:
        """Deliver the effect that a job tells of, if it is this worker's turn. See `Queue.work`.

        Raises:
            Again: not now.
        """
        effect_id, schema = payload.decode(), self._database.schema
        row = await self._look(effect_id)
        if row is None:
            return
        handler = handler_of(row["topic"])
        seconds = _MARGIN + (handler.timeout if handler is not None else 0)
        attempt = await self._database.autocommit(lambda conn: queries.claim(conn, schema, effect_id, seconds))
        if attempt is None:
            await self._come_back(effect_id)
            return
        await failpoints.hit("effect.claimed")
        await self._deliver(row, handler, attempt)

    async def _look(self, effect_id: str) -> asyncpg.Record | None:
        """The effect, if there is something to be done about it now."""
        schema = self._database.schema
        row = await self._database.autocommit(lambda conn: queries.look(conn, schema, effect_id))
        if row is None or row["state"] not in _SETTLED:
            return None
        return None if row["in_line"] and await self._stands_in_line(effect_id) else row

    async def _stands_in_line(self, effect_id: str) -> bool:
        async def ask(conn: Connection) -> bool:
            async with conn.transaction(isolation="read_committed"):
                return await queries.in_line(conn, self._database.schema, effect_id)

        return await self._database.autocommit(ask)

    async def _come_back(self, effect_id: str) -> None:
        """It could not be claimed: come back when it can, unless somebody else sees to it."""
        row = await self._look(effect_id)
        if row is not None:
            raise Again(timedelta(seconds=(row["claimed"] or 0) + _MORE))

    async def _deliver(self, row: asyncpg.Record, handler: EffectHandler | None, attempt: int) -> None:
        state, effect_id = row["state"], row["id"]
        function = None if handler is None else handler.deliver if state == "waiting" else handler.undo
        if handler is None or function is None:
            await self._give_up(row, attempt, _missing(row["topic"], state))
            return
        try:
            document = payload_at(self._seal, effect_id).loads_typed((row["kind"], row["payload"]))
            effect = Effect(effect_id, row["topic"], json.loads(document), row["key"], row["thread_id"], attempt)
            async with asyncio.timeout(handler.timeout):
                await function(effect)
        except Exception as error:  # noqa: BLE001 - whatever it is, the effect is not delivered
            said = f"{type(error).__name__}: {error}"
            if attempt >= handler.attempts or isinstance(error, GiveUp):
                await self._give_up(row, attempt, said)
                return
            await self._note(row, state, attempt, said)
            pause = handler.pause(attempt)
            _log.info("Effect %s (%s) failed, and is tried again in %s s.", effect_id, row["topic"], pause)
            raise Again(timedelta(seconds=pause)) from None
        await failpoints.hit("effect.delivered")
        await self._settle(effect_id, state)
        await failpoints.hit("effect.settled")

    async def _settle(self, effect_id: str, was: str) -> None:
        schema = self._database.schema

        async def settle(conn: Connection) -> None:
            async with conn.transaction(isolation="read_committed"):
                await queries.succeeded(conn, schema, effect_id, (was, _GIVEN_UP[was]), _SETTLED[was])
                await tell_next(conn, schema, self._queue, effect_id)

        await self._database.autocommit(settle)

    async def _give_up(self, row: asyncpg.Record, attempt: int, said: str) -> None:
        _log.warning("Effect %s (%s) is a dead letter. See `runtime effects list --dead`.", row["id"], row["topic"])
        await self._note(row, _GIVEN_UP[row["state"]], attempt, said)

    async def _note(self, row: asyncpg.Record, state: str, attempt: int, said: str) -> None:
        effect_id, was = row["id"], row["state"]
        hidden = self._hide(storable(said), effect_id)
        await self._database.autocommit(
            lambda conn: queries.failed(conn, self._database.schema, effect_id, was, state, attempt, hidden)
        )


async def tell_next(conn: Any, schema: str, queue: Queue, effect_id: str) -> None:
    """An effect is settled: tell of the next in its line. If its thread is gone, so is the effect. In a transaction."""
    if (waiting := await queries.next_in_line(conn, schema, effect_id)) is not None:
        await queue.put(conn, [job_for(waiting)])
    await queries.forget_orphan(conn, schema, effect_id)


def _missing(topic: str, state: str) -> str:
    if state == "undoing":
        return f"The handler of effects {topic!r} names no compensation (undo=...)."
    return f"The worker has no handler of effects {topic!r}: start it with the module that declares one (--graph)."
