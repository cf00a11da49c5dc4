"""The loop of a worker: takes jobs, lets handlers do them, renews their leases, and tells the queue how they ended.

A job that has ended is held, and renewed, until the queue has been told: when the database is away for a while, what
was done is not done again because nobody could say so. Jobs that end together are told together.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from superstep.checkpointer.database.errors import DRIVER_ERRORS, is_closed
from superstep.checkpointer.effects.jobs import Again
from superstep.runtime.faults import DatabaseUnavailable, SchemaMissing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any, TypeVar

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.effects.backend import Backend, Taken
    from superstep.checkpointer.effects.jobs import Handler

    T = TypeVar("T")

__all__ = ["Worker"]

_log = logging.getLogger("superstep.queue")

_LOOK = 5.0  # seconds between looks at a queue that would notify
_LOOK_UNTOLD = 0.2  # the same where nothing notifies
_AWAY = 1.0  # seconds between tries while the database is away
_BEATS = 4  # in a lease
_LONGEST = 60.0
_HAND_BACK = 5.0  # seconds that a cancelled worker may take to put its jobs back
_SWEEP = 3600.0


class Worker:
    """See the module. One use: `run`."""

    def __init__(
        self, database: Database, backend: Backend, handlers: Mapping[str, Handler], *, concurrency: int, lease: float
    ) -> None:
        self._database, self._backend, self._handlers = database, backend, handlers
        self._concurrency, self._lease = concurrency, lease
        self._held: dict[int, Taken] = {}
        self._running: dict[asyncio.Task[None], Taken] = {}
        self._ended: list[Taken] = []
        self._telling: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._told = False  # whether somebody would tell of new jobs
        self._name = uuid.uuid4()
        self._error: BaseException | None = None
        self._ending = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set and what is under way has ended. See `Queue.work`."""
        aside = [asyncio.create_task(work) for work in (self._beat(), self._listen(), self._sweep(), self._stop(stop))]
        for task in aside:
            task.add_done_callback(self._failed)
        try:
            while not stop.is_set():
                self._wake.clear()
                if await self._take() == 0 and not stop.is_set():
                    await self._rest()
                self._raise()
            while self._running:
                await asyncio.wait(self._running)
                self._raise()
            await self._tell()
        finally:
            self._ending = True
            await _cancel([*aside, *self._running])
            await self._hand_back()

    def _failed(self, task: asyncio.Task[None]) -> None:
        """A part of the worker has ended; if by an error, that is the worker's."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
            self._wake.set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    async def _take(self) -> int:
        """Begin jobs: how many."""
        room = self._concurrency - len(self._running)
        if room <= 0:
            return 0
        taken = await self._patiently(
            lambda conn: self._backend.take(conn, self._name, self._handlers, room, self._lease)
        )
        begun = 0
        for job in taken:
            if job.id not in self._held:  # else its lease had run out here, and it was taken from this very worker
                self._held[job.id] = job
                task = asyncio.create_task(self._do(job))
                self._running[task] = job
                task.add_done_callback(self._freed)
                begun += 1
        return begun

    def _freed(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._failed(task)
        self._wake.set()

    async def _rest(self) -> None:
        """Until there may be something to take."""
        longest = min(_LOOK if self._told else _LOOK_UNTOLD, self._lease / 2)
        if len(self._running) < self._concurrency:
            due = await self._patiently(lambda conn: self._backend.due(conn, self._handlers))
            if due is not None:
                longest = min(longest, max(due.total_seconds(), 0.001))
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._wake.wait()

    async def _do(self, job: Taken) -> None:
        """Run the handler, and see to it that the queue is told."""
        try:
            await self._handlers[job.kind](job.payload, job.attempts)
        except Again as again:
            await self._put_back(job, again.delay)
        except asyncio.CancelledError:
            if self._ending:
                raise
            await self._put_back(job, timedelta(0))  # something in the handler was cancelled, and not the worker
        except Exception as error:  # noqa: BLE001 - whatever it is, the job is not done
            delay = min(_LONGEST, 2.0 ** min(job.attempts, 16))
            _log.warning("A job of kind %r failed (%s), and is tried again in %s s.", job.kind, _name(error), delay)
            await self._put_back(job, timedelta(seconds=delay))
        else:
            self._ended.append(job)
            if self._telling is None or self._telling.done():
                self._telling = asyncio.create_task(self._tell())
                self._telling.add_done_callback(self._failed)

    async def _put_back(self, job: Taken, delay: timedelta) -> None:
        await self._patiently(lambda conn: self._backend.again(conn, job, delay))
        self._held.pop(job.id, None)

    async def _tell(self) -> None:
        """Have the queue delete what has ended."""
        while self._ended:
            jobs = list(self._ended)
            await self._patiently(partial(self._done, jobs))
            del self._ended[: len(jobs)]
            for job in jobs:
                self._held.pop(job.id, None)

    async def _done(self, jobs: list[Taken], conn: Connection) -> None:
        await self._backend.done(conn, jobs)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease / _BEATS)
            if self._held:
                await self._patiently(lambda conn: self._backend.beat(conn, list(self._held)))

    async def _sweep(self) -> None:
        while True:
            await self._patiently(self._backend.sweep)
            await asyncio.sleep(_SWEEP)

    async def _stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _patiently(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """A statement, once the database can be reached. It may be executed more than once."""
        while True:
            try:
                return await self._database.autocommit(work)
            except SchemaMissing:
                raise
            except DatabaseUnavailable as error:
                _log.warning("The queue waits for the database: %s", error)
                await asyncio.sleep(_AWAY)

    async def _listen(self) -> None:
        """Be told of new jobs, as far as this database can tell."""
        while self._database.connections.can_listen:
            with suppress(DatabaseUnavailable, *DRIVER_ERRORS):
                await self._listen_once()
            self._told = False
            await asyncio.sleep(_AWAY)

    async def _listen_once(self) -> None:
        connections, channel = self._database.connections, self._backend.channel
        conn = await connections.acquire()
        lost = asyncio.Event()
        try:
            connections.watch.end(conn)  # it is silent when there is nothing to tell
            conn.add_termination_listener(lambda _: lost.set())
            await conn.add_listener(channel, self._rung)
            self._told = True
            self._wake.set()  # what was put before it listened
            while not lost.is_set() and not is_closed(conn):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await lost.wait()
        finally:
            await asyncio.shield(connections.discard(conn))

    def _rung(self, _conn: object, _pid: int, _channel: str, payload: object) -> None:
        with suppress(ValueError):
            said = json.loads(str(payload))
            if isinstance(said, dict) and said.get("operation") == "insert":
                self._wake.set()

    async def _hand_back(self) -> None:
        """Tell what has ended, and put back what has not, as far as that can be done in a moment."""
        with suppress(TimeoutError, DatabaseUnavailable):
            async with asyncio.timeout(_HAND_BACK):
                if self._telling is not None:
                    await asyncio.gather(self._telling, return_exceptions=True)
                await self._tell()
                for job in list(self._held.values()):
                    await self._put_back(job, timedelta(0))


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _name(error: BaseException) -> str:
    return type(error).__name__
