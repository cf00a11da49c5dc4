"""Who holds which connection: short loans, and the transactions that super-steps keep pinned between reads.

A pinned transaction is a convenience, never a right: the read log can rebuild it. So whenever somebody waits for a
connection, the step that has been idle longest gives its own back. Because of that no step can starve another one, not
even with a pool of one connection and `hold_idle="forever"`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg.pool import PoolConnectionProxy

__all__ = ["DRIVER_ERRORS", "Connection", "Connections", "Holder", "is_closed", "is_lost", "is_serialization_failure"]

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Everything that talking to the database can raise."""

_LOST = (
    asyncpg.InternalClientError,  # the driver lost track, as it does when a server ends a connection between two calls
    asyncpg.PostgresConnectionError,  # class 08, ConnectionDoesNotExistError among them
    asyncpg.InterfaceError,  # the driver noticed first that the connection is closed
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    OSError,
)


def is_serialization_failure(error: BaseException) -> bool:
    """SQLSTATE 40001 or 40P01: the transaction is over, and running it again may succeed."""
    return isinstance(error, asyncpg.SerializationError | asyncpg.DeadlockDetectedError)


def is_lost(error: BaseException, conn: Connection | None = None) -> bool:
    """The connection is gone, so what its transaction did is unknown until looked up."""
    if isinstance(error, asyncpg.InterfaceError):
        return conn is None or is_closed(conn)
    return isinstance(error, _LOST)


def is_closed(conn: Connection) -> bool:
    """Whether the connection is gone. The pool takes a broken one back by itself, and its proxy then raises."""
    try:
        return conn.is_closed()
    except asyncpg.InterfaceError:
        return True


class Holder(Protocol):
    """Somebody who keeps a connection while idle and can give it back at any such moment."""

    async def release(self) -> None:
        """Give the connection back now, if still idle."""


class Connections:
    """The pool, and the idle holders in the order they became idle."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], hold_idle: float) -> None:
        self.pool = pool
        self.hold_idle = hold_idle
        self.waits = 0
        self._waiting = 0
        self._idle: OrderedDict[Holder, None] = OrderedDict()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a connection right now."""
        return self._waiting > 0

    async def acquire(self) -> Connection:
        """A connection; the longest idle holder gives up its own if the pool has none left."""
        if not self._exhausted():
            return await self.pool.acquire()
        self.waits += 1
        self._waiting += 1
        try:
            while self._exhausted() and self._idle:
                holder, _ = self._idle.popitem(last=False)
                await holder.release()
            return await self.pool.acquire()
        finally:
            self._waiting -= 1

    async def give_back(self, conn: Connection) -> None:
        """Return a connection that is in no transaction."""
        await self.pool.release(conn)

    async def discard(self, conn: Connection) -> None:
        """Return a connection whose state is not known: it is closed, and the server rolls back."""
        if not is_closed(conn):
            conn.terminate()
        await self.pool.release(conn)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Connection]:
        """A connection for a moment, in autocommit."""
        conn = await self.acquire()
        try:
            yield conn
        finally:
            await asyncio.shield(self.give_back(conn))

    def idle(self, holder: Holder) -> None:
        """`holder` keeps its connection but does not use it at the moment."""
        self._idle[holder] = None

    def busy(self, holder: Holder) -> None:
        """`holder` uses its connection, or has none any more."""
        self._idle.pop(holder, None)

    def _exhausted(self) -> bool:
        return self.pool.get_idle_size() == 0 and self.pool.get_size() >= self.pool.get_max_size()
