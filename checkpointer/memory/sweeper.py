"""Ending what has expired, and deleting what ended long ago: once, or ever again in the background."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from superstep.checkpointer.database.errors import DRIVER_ERRORS
from superstep.checkpointer.memory import queries
from superstep.runtime.faults import RuntimeFault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.memory.queries import Statement

__all__ = ["Sweeper", "sweep"]

logger = logging.getLogger(__name__)

_AT_ONCE = 1000  # rows of one transaction: none of them holds locks for long


async def sweep(database: Database, history: timedelta) -> int:
    """End the time of items that have expired, and delete versions whose time ended longer ago than `history`.

    In transactions of a thousand rows; what somebody else has locked right now is left for the next time.

    Returns:
        How many items had expired.
    """
    expired = await _while_full(database, queries.expire(database.schema, _AT_ONCE))
    await _while_full(database, queries.prune(database.schema, history.total_seconds(), _AT_ONCE))
    return expired


async def _while_full(database: Database, statement: Statement) -> int:
    text, args = statement
    done = 0
    while True:
        status = await database.autocommit(lambda conn: conn.execute(text, *args))
        touched = int(status.rpartition(" ")[2])
        done += touched
        if touched < _AT_ONCE:
            return done


class Sweeper:
    """Sweeps in the background, on the event loop it was started on, until it is stopped."""

    def __init__(self, work: Callable[[], Awaitable[int]]) -> None:
        self._work = work
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, minutes: float) -> asyncio.Task[None]:
        """Begin, unless it has: the first sweep is in so many minutes. The task may be cancelled."""
        if self._task is None or self._task.done():
            self._stop.clear()
            self._task = asyncio.get_running_loop().create_task(self._sweep(minutes * 60), name="superstep-sweeper")
        return self._task

    async def stop(self, seconds: float | None = None) -> bool:
        """End it; whether it has, in so many seconds."""
        task = self._task
        if task is None or task.done():
            return True
        self._stop.set()
        await asyncio.wait([task], timeout=seconds)
        return task.done()

    async def _sweep(self, seconds: float) -> None:
        while True:
            try:
                await asyncio.wait_for(self._stop.wait(), seconds)
            except TimeoutError:
                pass
            else:
                return
            try:
                if swept := await self._work():
                    logger.info("%d items of the memory had expired.", swept)
            except (RuntimeFault, *DRIVER_ERRORS):
                logger.exception("The memory could not be swept; it is tried again later.")
