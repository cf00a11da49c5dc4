"""Threads that wait at a question: what a worker has to know to deliver an answer, and what it looks after.

An answer is queued with the number of its question. When it is delivered, the question must be open still. What could
break that, and what stops it:

*Somebody else answers between the look and the run.* Whoever runs a thread raises its fencing token. The run takes the
thread only with the token that was there when the question was looked at (`threads.queries.running.claim`).

*The worker dies after it has taken the thread.* That it has was noted with the claim (`question.taken_by`). So the next
worker knows whether the answer counted: then it goes on from where the run was left, and does not refuse it.

*Two answers to one question, or an answer and the end of its time.* Runs of one thread happen one after the other. The
first of them to take the thread counts; for the second one the question is not open.

*Two workers see that the time of a question is over.* Each question is marked once, in the transaction that queues the
run for it; one that another worker has locked is skipped.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from superstep.checkpointer.children import queries
from superstep.checkpointer.children.spawned import OF_RUN, OTHERWISE, WAKE
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.effects.queue import Job, Queue
from superstep.checkpointer.fleet.ends import settle
from superstep.checkpointer.fleet.runs import Request
from superstep.checkpointer.fleet.stored import dump_request, load_request
from superstep.runtime.faults import ValueNotAuthentic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    import asyncpg
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.fleet.runs import Claimed

    T = TypeVar("T")

__all__ = ["Standing", "Waiting"]

_log = logging.getLogger("superstep.worker")

_GIVEN_UP = "Its question was not answered: its thread was given up, or has been entered with other input since."


class Standing(NamedTuple):
    """How the question stands that a run carries an answer to.

    Attributes:
        token: the fencing token of the thread.
        is_open: it is open still.
        is_ours: this very run has entered the thread with the answer before.
        withdrawn: how often it was withdrawn, since the facts had moved that it was asked on.
    """

    token: int
    is_open: bool
    is_ours: bool
    withdrawn: int


class Waiting:
    """The part of `Fleet` that is about threads that wait."""

    _database: Database
    _serde: SerializerProtocol | None

    async def _autocommit(self, work: Callable[[Connection, str], Awaitable[T]]) -> T:
        raise NotImplementedError

    async def standing(self, run: Claimed) -> Standing | None:
        """How the question of a run stands; `None` if its thread is gone."""
        name, number = run.asked_as or "", run.question or 0
        row = await self._autocommit(
            lambda conn, schema: queries.delivers(conn, schema, run.thread_id, name, number, run.run_id)
        )
        await failpoints.hit("answer.looked_at")
        return None if row is None else Standing(row["token"], row["open"], row["is_ours"], row["withdrawn"])

    async def was_withdrawn(self, run: Claimed, before: int) -> bool:
        """Whether the question of a run was withdrawn since it stood so: its answer has counted for nothing."""
        number = run.question or 0
        now = await self._autocommit(
            lambda conn, schema: queries.how_often_withdrawn(conn, schema, run.thread_id, number)
        )
        return now is not None and now > before

    async def surroundings(self, run: Claimed, request: Request, serde: SerializerProtocol) -> Request:
        """The request of a run that carries an answer, with the config and context of the run that it goes on with."""
        row = await self._autocommit(lambda conn, schema: queries.entered_with(conn, schema, run.thread_id))
        if row is None:
            return request
        before = load_request(serde, (row["kind"], row["request"]), OF_RUN, str(row["run_id"]))
        return replace(before, input=request.input)

    async def look_after(self) -> None:
        """Answer questions whose time is over; see to children that nobody else tells of. Any number may call it."""
        await self._autocommit(self._look_after)

    async def _look_after(self, conn: Connection, schema: str) -> None:
        if not await queries.has_due(conn, schema):
            return
        async with conn.transaction(isolation="read_committed"):
            late = [row for row in await queries.expire(conn, schema) if row["open"] and row["graph"] is not None]
            for row in late:
                await self._expire(conn, schema, row)
            await settle(conn, self._database, self._serde, await queries.given_up(conn, schema), "failed", _GIVEN_UP)
            gone = await queries.deleted(conn, schema)
            woken = await queries.wake(conn, schema, gone) if gone else 0
            if await queries.finished_aside(conn, schema) or late or woken:
                await Queue(self._database).put(conn, [Job(WAKE, b"")])

    async def _expire(self, conn: Connection, schema: str, row: asyncpg.Record) -> None:
        from superstep.checkpointer.langgraph.encryption import sealing

        if self._serde is None:
            raise AssertionError("a program that only lists has looked after questions")
        run_id = uuid.UUID(bytes=os.urandom(16), version=4)
        thread_id, name = row["thread_id"], row["name"]
        try:
            document = sealing(self._serde)(OTHERWISE, thread_id, name).loads_typed((row["kind"], row["otherwise"]))
        except ValueNotAuthentic as error:  # one that was stored with another key: the others' time comes as well
            _log.warning("The time of question %s of thread %s is over: %s", name, thread_id, error)
            return
        kind, stored = dump_request(self._serde, Request(json.loads(document)), OF_RUN, str(run_id))
        answering = queries.Answering(run_id, thread_id, row["graph"], row["number"], name, kind, stored, "expiry")
        await queries.answer(conn, schema, answering)
