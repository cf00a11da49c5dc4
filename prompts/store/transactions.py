"""Transactions over any connection like asyncpg's: this library imports no driver.

The loop here is much like the checkpointer's `database.retry`, and cannot be that one: libraries do not know each
other, so that each can be used without the rest. Here errors are told apart by SQLSTATE, for want of the driver's
classes, and unique violations count as races, since two transactions may number a version alike.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

from superstep.runtime.faults import PromptConflict

__all__ = ["Begin", "Connection", "in_transaction"]

T = TypeVar("T")

# SQLSTATEs of a transaction that met another: serialization failure, deadlock, unique violation.
_RACES = frozenset({"40001", "40P01", "23505"})
_CHANCE = random.SystemRandom()  # not the generator that programs seed
_TRIES = 20
_PAUSE = 0.005


class Connection(Protocol):
    """What is needed of a database connection: asyncpg's methods of these names."""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Any]:
        """All rows, in order; none for a statement that returns nothing."""

    async def fetchrow(self, query: str, /, *args: Any) -> Any:
        """The first row, or `None`."""

    async def fetchval(self, query: str, /, *args: Any) -> Any:
        """The first value of the first row, or `None`."""

    async def execute(self, query: str, /, *args: Any) -> str:
        """Run a statement for its effect; the result is the command tag, such as `UPDATE 1`."""


Begin: TypeAlias = Callable[[], AbstractAsyncContextManager[Connection]]
"""Makes a transaction that commits when its block ends without an error."""


async def in_transaction(begin: Begin, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run `work` in a transaction, and in another one if that met another one's.

    Args:
        begin: makes the transactions.
        work: may run many times, so it must have no effect but on the connection.

    Raises:
        PromptConflict: It met others every time. Nothing was changed.
    """
    for attempt in range(_TRIES):
        try:
            async with begin() as conn:
                return await work(conn)
        except Exception as error:
            # The class is the driver's, which is not imported here; its SQLSTATE is Postgres's own.
            if getattr(error, "sqlstate", None) not in _RACES:
                raise
            met = error
        await asyncio.sleep(_CHANCE.uniform(0, _PAUSE * (attempt + 1)))
    raise PromptConflict(
        f"Others kept changing the same prompts, {_TRIES} times over, and nothing was changed here. Try again."
    ) from met
