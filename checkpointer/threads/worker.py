"""The process as one that runs threads: known by name in the database, with a sign of life every few seconds."""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from superstep.checkpointer.database.errors import DRIVER_ERRORS
from superstep.checkpointer.threads.liveness import BEAT, located, this_process
from superstep.checkpointer.threads.queries import workers
from superstep.runtime.faults import RuntimeFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.checkpointer.database.database import Database

__all__ = ["Worker"]

_LEAVE = 2.0  # seconds for saying that it is over; unsaid, it is found out


class Worker:
    """Lives on the saver's event loop.

    Attributes:
        id: names this process in the rows of the threads that it runs.
    """

    def __init__(self, database: Database, is_busy: Callable[[], bool]) -> None:
        self.id = uuid.UUID(bytes=os.urandom(16), version=4)  # tests of a program often replace `uuid.uuid4`
        self._database = database
        self._is_busy = is_busy
        self._entering = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._known = False

    async def enlist(self) -> None:
        """Be known, and heard of from now on for as long as this process runs any thread. Call it without a connection.

        Raises:
            DatabaseUnavailable: the database did not come back.
        """
        if self._is_beating():
            return
        async with self._entering:
            if not self._is_beating():
                await self._say()
                self._beating = self._database.home.loop.create_task(self._beat())

    async def leave(self) -> None:
        """The process is over with running threads."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        if self._known:
            with suppress(RuntimeFault, TimeoutError, *DRIVER_ERRORS):
                async with asyncio.timeout(_LEAVE), self._database.connections.borrow() as conn:
                    await workers.leave(conn, self._database.schema, self.id)

    def _is_beating(self) -> bool:
        return self._beating is not None and not self._beating.done()

    async def _say(self) -> None:
        await located()
        here = this_process()
        await self._database.autocommit(lambda conn: workers.beat(conn, self._database.schema, self.id, here))
        self._known = True

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            if not self._is_busy():
                return
            # A database that is away for a while hears of us when it is back.
            with suppress(RuntimeFault, *DRIVER_ERRORS):
                await self._say()
