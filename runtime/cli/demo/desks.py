"""How nodes read and write: the one thing in which the two sides differ.

`CachedDesk` is an ordinary application beside LangGraph's plain checkpointer: reads go through a cache with a time to
live, writes straight to Postgres, in a READ COMMITTED transaction of their own; what a transaction has written is
dropped from the cache. `StepDesk` is Superstep: reads are the super-step's, writes are staged and commit with it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from superstep.checkpointer import current_step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from superstep.checkpointer import StoredThreads

__all__ = ["CachedDesk", "Desk", "Seen", "Statement", "StepDesk"]

# The transactions of a saver are SERIALIZABLE. Before their first query Postgres lets one choose.
READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

Statement: TypeAlias = tuple[str, tuple[Any, ...]]


class Seen(NamedTuple):
    """A row as asyncpg has it, or `None`, and when it was read from the database (`time.monotonic`)."""

    row: Any
    at: float


class Desk(Protocol):
    """What the nodes of the flow read and write through."""

    async def read(self, sql: str, *args: Any) -> Seen:
        """Read one row."""
        ...

    async def write(self, statements: Sequence[Statement], *, touches: Sequence[Any] = ()) -> None:
        """Write, all of it or nothing. `touches` are the keys of rows that were read and are changed by it."""
        ...


class StepDesk:
    """Reads in the snapshot of the super-step, and writes that commit with it if what was read still holds."""

    async def read(self, sql: str, *args: Any) -> Seen:
        """Read one row: a fact of the node."""
        at = time.monotonic()
        return Seen(await current_step().fetchrow(sql, *args), at)

    async def write(self, statements: Sequence[Statement], *, touches: Sequence[Any] = ()) -> None:
        """Stage the statements, each for exactly one row."""
        del touches
        for sql, args in statements:
            current_step().stage(sql, *args, expect_rows=1)


class CachedDesk:
    """A read-through cache, and transactions as Postgres has them by default.

    Args:
        database: Whose connections it uses.
        ttl: Seconds that a row is served again; 0 asks the database each time.
    """

    def __init__(self, database: StoredThreads, ttl: float) -> None:
        self._database = database
        self._ttl = ttl
        self._cache: dict[tuple[Any, ...], Seen] = {}

    async def read(self, sql: str, *args: Any) -> Seen:
        """Read one row: from the cache while it is younger than the time to live, else from the database."""
        cached = self._cache.get((sql, *args))
        if cached is not None and time.monotonic() - cached.at < self._ttl:
            return cached
        at = time.monotonic()
        async with self._transaction() as tx:
            await tx.execute(READ_COMMITTED)
            found = Seen(await tx.fetchrow(sql, *args), at)
        self._cache[sql, *args] = found
        return found

    async def write(self, statements: Sequence[Statement], *, touches: Sequence[Any] = ()) -> None:
        """Write in a transaction of its own, then drop what it touches from the cache."""
        async with self._transaction() as tx:
            await tx.execute(READ_COMMITTED)
            for sql, args in statements:
                await tx.execute(sql, *args)
        for key in [key for key in self._cache if any(each in key[1:] for each in touches)]:
            del self._cache[key]

    def _transaction(self) -> AbstractAsyncContextManager[Any]:
        return self._database.transaction()
