"""Who holds which connection: short loans, and the transactions that super-steps keep pinned between reads.

A pinned transaction is a convenience, never a right: the read log can rebuild it. So whenever a task waits for a
connection, the step that has been idle longest gives its own back. Because of that no step can starve another one, not
even with a pool of one connection and `hold_idle="forever"`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from superstep.checkpointer.database.errors import Connection, is_closed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

__all__ = ["Connections", "Holder"]


class Holder(Protocol):
    """An owner that keeps a connection while idle and can give it back at any such moment."""

    async def release(self) -> None:
        """Give the connection back now, if still idle."""


class Connections:
    """The pool, and the idle holders in the order they became idle.

    With `keep`, connections stay checked out of asyncpg's pool between loans: acquiring and releasing there costs about
    as much as a small statement. Only for a pool that no other code uses.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], hold_idle: float, *, keep: bool = False) -> None:
        self.pool = pool
        self.hold_idle = hold_idle
        self._keep = keep
        self._most = pool.get_max_size()
        self._lent = 0
        self._blocked = 0
        self._free: list[Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: OrderedDict[Holder, None] = OrderedDict()

    @property
    def wanted(self) -> bool:
        """Whether a task waits for a connection right now."""
        return bool(self._waiting or self._blocked)

    @property
    def lent(self) -> int:
        """Connections in use, those of idle super-steps included."""
        return self._lent

    async def acquire(self) -> Connection:
        """A connection; the longest idle holder gives up its own if there is none left."""
        while self._lent >= self._most:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                if self._idle:
                    holder, _ = self._idle.popitem(last=False)
                    await holder.release()
                await turn
            except BaseException:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                elif not turn.cancelled():
                    self._wake()  # it was our turn, and we do not take it
                raise
        self._lent += 1
        try:
            while self._free:
                conn = self._free.pop()
                if not is_closed(conn):
                    return conn
                await self.pool.release(conn)
            return await (self.pool.acquire() if self._keep else self._acquire_shared())
        except BaseException:
            self._returned()
            raise

    async def _acquire_shared(self) -> Connection:
        """From a pool that others use too: it may be empty although we have few of its connections."""
        if self.pool.get_idle_size() or self.pool.get_size() < self._most:
            return await self.pool.acquire()
        self._blocked += 1
        try:
            if self._idle:
                holder, _ = self._idle.popitem(last=False)
                await holder.release()
            return await self.pool.acquire()
        finally:
            self._blocked -= 1

    async def give_back(self, conn: Connection) -> None:
        """Return a connection that is in no transaction."""
        self._returned()
        if self._keep and not is_closed(conn):
            self._free.append(conn)
        else:
            await self.pool.release(conn)

    async def discard(self, conn: Connection) -> None:
        """Return a connection whose state is not known: it is closed, and the server rolls back."""
        self._returned()
        if not is_closed(conn):
            conn.terminate()
        await self.pool.release(conn)

    async def renew(self) -> None:
        """Replace the connections that are free now by new ones, which know types created meanwhile."""
        await self.drop_free()
        await self.pool.expire_connections()

    async def drop_free(self) -> None:
        """Give kept connections back to the pool."""
        while self._free:
            await self.pool.release(self._free.pop())

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Connection]:
        """A connection for a moment, in autocommit."""
        conn = await self.acquire()
        try:
            yield conn
        finally:
            if self._keep:
                await self.give_back(conn)
            else:
                await asyncio.shield(self.give_back(conn))

    def idle(self, holder: Holder) -> None:
        """`holder` keeps its connection but does not use it at the moment."""
        self._idle[holder] = None

    def busy(self, holder: Holder) -> None:
        """`holder` uses its connection, or has none any more."""
        self._idle.pop(holder, None)

    def _returned(self) -> None:
        self._lent -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
