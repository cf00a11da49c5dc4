"""The database as the rest of the saver sees it: leases of connections, single statements, the home loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from superstep.checkpointer.database.errors import (
    MISSING_TABLES,
    Connection,
    id_too_long,
    is_lost,
    is_serialization_failure,
    schema_missing,
)
from superstep.checkpointer.database.leases import Connections
from superstep.checkpointer.database.loop import HomeLoop
from superstep.checkpointer.database.retry import retry
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

__all__ = ["Database"]

T = TypeVar("T")

_TRIES = 12


class Database:
    """Shared by a saver, its clones and its runs. Make it on the event loop that the pool belongs to.

    Attributes:
        schema: name of the schema of the saver's own tables, unquoted.
        connections: who holds which connection.
        home: the event loop that everything here happens on.
    """

    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], *, schema: str, hold_idle: float, own_pool: bool = False
    ) -> None:
        self.schema = schema
        self.connections = Connections(pool, hold_idle, keep=own_pool)
        self.home = HomeLoop()

    async def autocommit(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run single statements on a connection, again if it breaks. `work` must bear being repeated.

        Raises:
            SchemaMissing: the saver's tables are not there.
            DatabaseUnavailable: the database did not come back.
        """

        async def once() -> T:
            async with self.connections.borrow() as conn:
                return await work(conn)

        return await retry(once, self._failed, tries=_TRIES)

    async def _failed(self, error: Exception, left: int) -> None:
        if isinstance(error, MISSING_TABLES):
            raise schema_missing(self.schema) from error
        if (too_long := id_too_long(error)) is not None:
            raise too_long from error
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
        await self.connections.drop_free()
