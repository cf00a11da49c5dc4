"""The database as the rest of the saver sees it: leases of connections, single statements, the home loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from superstep.checkpointer.database.errors import (
    DRIVER_ERRORS,
    MISSING_TABLES,
    Connection,
    cut,
    ended_early,
    id_too_long,
    is_lost,
    is_serialization_failure,
    is_unusable,
    schema_missing,
)
from superstep.checkpointer.database.leases import Connections
from superstep.checkpointer.database.loop import HomeLoop
from superstep.checkpointer.database.recent import Recent
from superstep.checkpointer.database.retry import Outage, retry
from superstep.checkpointer.database.session import RESET_ALL
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import asyncpg
    from asyncpg.transaction import Transaction

    from superstep.checkpointer.database.server import Server

__all__ = ["Database"]

T = TypeVar("T")

_TRIES = 12
_STATEMENTS = 1024


class Database:
    """Shared by a saver, its clones and its runs. Make it on the event loop that the pool belongs to.

    Attributes:
        schema: name of the schema of the saver's own tables, unquoted.
        connections: who holds which connection.
        home: the event loop that everything here happens on.
        outage: how long the server has been away.
        apart: reads that have to be asked by themselves, see `step.together`, and writes that have to be sent so.
        harmless: reads that the database has answered where they could not write, see `step.protection`.
        carries: staged writes that may go along with a checkpoint, see `commit.carrying`.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        schema: str,
        hold_idle: float,
        hold_max: float = float("inf"),
        own_pool: bool = False,
        server: Server | None = None,
    ) -> None:
        self.schema = schema
        self.connections = Connections(
            pool,
            hold_idle,
            hold_max=hold_max,
            keep=own_pool,
            pooled=server is not None and server.pooled,
            ask=server.connect if server is not None else None,
        )
        self.home = HomeLoop()
        self.outage = Outage()
        self.apart = Recent(_STATEMENTS)
        self.harmless = Recent(_STATEMENTS)
        self.carries = Recent(_STATEMENTS)

    async def autocommit(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run single statements on a connection, again if it breaks. `work` must bear being repeated.

        Raises:
            SchemaMissing: the saver's tables are not there.
            DatabaseUnavailable: the database did not come back.
        """

        async def once() -> T:
            conn = await self.connections.acquire()
            try:
                return await work(conn)
            except BaseException as e:
                if is_unusable(e) or not isinstance(e, Exception):  # cancelled: perhaps before BEGIN was answered
                    cut(conn)
                raise
            finally:
                await self.connections.end_loan(conn)

        return await retry(once, self._failed, tries=_TRIES, outage=self.outage)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A SERIALIZABLE transaction for code that does other things meanwhile. Nothing of the session outlives it.

        Raises:
            DatabaseUnavailable: it could not be begun. What goes wrong later is the driver's to say.
        """
        conn, transaction = await retry(self._begin, self._failed, tries=_TRIES, outage=self.outage)
        try:
            self.connections.watch.begin(conn, pauses=True)
            try:
                yield conn
            except BaseException:
                with suppress(*DRIVER_ERRORS):  # the connection is cut then, and what happened first is told
                    await self._end(conn, transaction.rollback())
                raise
            await self._end(conn, transaction.commit())
        finally:
            await asyncio.shield(self.connections.give_back(conn))

    async def _begin(self) -> tuple[Connection, Transaction]:
        conn = await self.connections.acquire()
        try:
            transaction = conn.transaction(isolation="serializable")
            await transaction.start()
        except BaseException:
            await self.connections.discard(conn)
            raise
        return conn, transaction

    async def _end(self, conn: Connection, ending: Awaitable[None]) -> None:
        self.connections.watch.begin(conn)
        try:
            await ending
            await conn.execute(RESET_ALL)
        except BaseException:
            cut(conn)
            raise

    async def _failed(self, error: Exception, left: int) -> None:
        if isinstance(error, MISSING_TABLES):
            raise schema_missing(self.schema) from error
        if (too_long := id_too_long(error)) is not None:
            raise too_long from error
        if ended := ended_early(error):
            raise ended from error
        if not (is_lost(error) or is_serialization_failure(error)):
            raise error
        if not left:
            raise DatabaseUnavailable(
                f"The database did not answer in {_TRIES} tries ({type(error).__name__}). Nothing is half-written; "
                f"continue with `runtime resume` when it is back."
            ) from error

    async def close(self) -> None:
        """Wait for background work and give kept connections back to the pool."""
        await self.home.settle()
        await self.connections.close()
