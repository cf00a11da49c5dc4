"""Checkpoints without reads and staged writes, of all flows of a process: what is ready together shares a statement.

A commit costs a round trip, a turn of the server and a flush of its log, whatever is in it. So one statement is under
way at a time; what becomes ready meanwhile is stored together by the next. A flow that is alone does not wait: its
checkpoint goes at once, and in the task that brings it.

Which interleavings could break it, and what stops them:

*Another run takes a thread over.* Each checkpoint brings the token and the head that its run knows, and the statement
compares them thread by thread, under the row locks that it takes: it stores those that have the right, and no others.
Checkpoints share fate only in this: if the statement fails, none is stored.

*One of them cannot be stored*, or the connection is lost, or two processes lock the same threads in opposite orders (a
deadlock): nothing was stored, or its answer was lost. Each is tried by itself then, and finds its own error, or itself.

*A flow is cancelled while its checkpoint waits.* What is under way is not torn apart: others are in it. It may be there
or not, as with any COMMIT whose answer is not waited for; the thread's next run goes on from what is there.

*Two checkpoints of one thread.* Never in one statement: the second has to see the head that the first one sets.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from superstep.checkpointer.commit.order import CommitOrder
from superstep.checkpointer.commit.queries import Put, checkpoint_exists, put_as_owner, put_roots
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.database.errors import DRIVER_ERRORS
from superstep.runtime.faults import RuntimeFault

if TYPE_CHECKING:
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["Group"]

_MOST = 64  # checkpoints in one statement


@dataclass(slots=True, eq=False)
class _Waiting:
    """A checkpoint that is ready, and how it went: whether it is stored."""

    put: Put
    stored: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, error: BaseException | None = None, *, stored: bool = False) -> None:
        if self.stored.done():
            return
        if error is None:
            self.stored.set_result(stored)
        else:
            self.stored.set_exception(error)
            self.stored.exception()  # whoever waits is told; who has gone does not mind


class Group:
    """The checkpoints of one saver's flows. Use on the home loop.

    Attributes:
        order: of the commits that have something to validate or apply.
    """

    def __init__(self, database: Database) -> None:
        self.order = CommitOrder(database)
        self._database = database
        self._queue: list[_Waiting] = []
        self._busy = False

    async def store(self, put: Put) -> bool:
        """Store a checkpoint durably; false if the run has no right to.

        Raises:
            DatabaseUnavailable: the database did not come back.
        """
        if self._busy:
            waiting = _Waiting(put)
            self._queue.append(waiting)
            try:
                return await waiting.stored
            except asyncio.CancelledError:
                if waiting in self._queue:
                    self._queue.remove(waiting)
                raise
        self._busy = True
        try:
            return await self._one(put)
        finally:
            self._next()

    def _next(self) -> None:
        if self._queue:
            self._database.home.spawn(self._drain)
        else:
            self._busy = False

    async def _drain(self) -> None:
        """Store what waits, and what comes to wait meanwhile."""
        try:
            while self._queue:
                batch = self._take()
                try:
                    await self._several(batch)
                except BaseException as e:
                    for waiting in batch:
                        waiting.settle(e)
                    if not isinstance(e, Exception):
                        raise
        finally:
            self._next()

    def _take(self) -> list[_Waiting]:
        """The first that wait, none of a thread that one before it is of."""
        taken: dict[str, _Waiting] = {}
        for waiting in self._queue:
            if len(taken) == _MOST:
                break
            taken.setdefault(waiting.put.new.thread_id, waiting)
        batch = list(taken.values())
        self._queue = [waiting for waiting in self._queue if taken.get(waiting.put.new.thread_id) is not waiting]
        return batch

    async def _several(self, batch: list[_Waiting]) -> None:
        stored: set[str] = set()
        if len(batch) > 1:
            try:
                stored = await self._database.autocommit(lambda conn: self._together(conn, batch))
            except (RuntimeFault, *DRIVER_ERRORS):
                pass  # each by itself finds out whose it is
        for waiting in batch:
            if waiting.put.new.thread_id in stored:
                waiting.settle(stored=True)
                continue
            try:
                waiting.settle(stored=await self._one(waiting.put))
            except (RuntimeFault, *DRIVER_ERRORS) as e:
                waiting.settle(e)

    async def _together(self, conn: Connection, batch: list[_Waiting]) -> set[str]:
        """The threads whose checkpoint was stored."""
        stored = await put_roots(conn, self._database.schema, [waiting.put for waiting in batch])
        await failpoints.hit("commit.committed")
        return stored

    async def _one(self, put: Put) -> bool:
        """Repeated after a lost connection it finds its own checkpoint."""
        schema = self._database.schema

        async def store(conn: Connection) -> bool:
            stored = await put_as_owner(conn, schema, put) or await checkpoint_exists(conn, schema, put.new)
            await failpoints.hit("commit.committed")
            return stored

        return await self._database.autocommit(store)
