"""How runs ended, recorded in the rows of their threads: now, or as soon as the database can be reached.

It is more than a line in listings: the row says that this process runs the thread, and others ask it before they run,
enqueue or roll back. After an outage that has ended runs, all of their threads would count as being run for as long as
the process lives. An ending that comes late changes nothing of a thread that somebody has claimed since: it names the
fencing token of its run.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from superstep.checkpointer.database.errors import DRIVER_ERRORS
from superstep.checkpointer.threads.queries import running
from superstep.runtime.faults import RuntimeFault

if TYPE_CHECKING:
    from superstep.checkpointer.database.database import Database

__all__ = ["Ending", "Endings"]

_log = logging.getLogger(__name__)
_AGAIN = 1.0  # seconds between tries


class Ending(NamedTuple):
    """What `running.finish` takes; `error` as it is stored."""

    thread_id: str
    token: int
    status: str
    error: str | None


class Endings:
    """Of one saver. Lives on its event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._left: list[Ending] = []
        self._trying: asyncio.Task[None] | None = None

    async def record(self, ending: Ending) -> None:
        """Record it; later, if the database does not answer. What the run did is committed in any case."""
        try:
            await self._record(ending)
        except (RuntimeFault, *DRIVER_ERRORS):
            _log.info("The ending of thread %s could not be recorded yet.", ending.thread_id, exc_info=True)
            self._left.append(ending)
            if self._trying is None or self._trying.done():
                self._trying = asyncio.get_running_loop().create_task(self._later())

    async def _record(self, ending: Ending) -> None:
        await self._database.autocommit(lambda conn: running.finish(conn, self._database.schema, *ending))

    async def _later(self) -> None:
        while self._left:
            await asyncio.sleep(_AGAIN)
            with suppress(RuntimeFault, *DRIVER_ERRORS):
                while self._left:
                    await self._record(self._left[0])
                    del self._left[0]

    async def close(self) -> None:
        """Others find out by themselves: this process says that it is over with running threads."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait([self._trying])
