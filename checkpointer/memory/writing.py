"""What operations that write come to: one statement each, staged in a super-step, or executed in a transaction.

The same statement either way, and each decides by what is there when it is executed. Which interleavings could break
it, and what stops them:

*Two that remember the same thing at once.* Each looks for an item that says the same, finds none, and inserts its
own, under another key. That is no serial order of the two: the second one would have found the first. Both are
SERIALIZABLE and read the range that the other inserts into, so PostgreSQL ends one of them with 40001. A super-step
repairs that: its facts hold, and the statement finds the other's item now, and inserts nothing. Nothing runs again.
Super-steps that commit in one transaction, one after the other, see each other's rows.

*… under the same key.* Then their rows meet in `memory_now`. Whoever comes second waits for the first; if that one
commits, it gets 40001, as before (`new_version` in `queries.sql`).

*Two that put the same item at once.* They meet on the row that they end, or on the number of the version that both
take. One is tried again, and its version comes after the other's: none is lost, the later one counts. Who has read the
item before has a fact that has moved: a super-step that adds to what it has read runs again with what is there now.

*A put that meets a delete, or the end of an item's time.* The same row, thus the same.

*A refresh that meets another one*: see `refresh` in `queries.sql`. It changes no column that a fact shows.

*A sweep that meets a reader.* Who has read an item before it expired, and commits after it was swept, has a fact that
has moved, and runs again. Who found it expired has not: it was not there, and is not.

*The answer to COMMIT is lost*, outside of a super-step: nothing is executed again, for others may have written the same
items since, and that would undo it. The caller is told that it is not known. In a super-step the checkpoint tells.

*Clocks.* The times of versions are the server's, taken by the statement. One that comes later in the serial order never
gets an earlier time for the same item (`moment`), whatever the clock does. Between items, and for what was written
before and committed after another one, times are as exact as the clocks: milliseconds.
"""

from __future__ import annotations

import asyncio
import operator
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from superstep.checkpointer.database.errors import is_collision, is_lost, is_serialization_failure
from superstep.checkpointer.database.retry import retry
from superstep.runtime.faults import DatabaseUnavailable, MemoryContended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.memory.queries import Statement

__all__ = ["execute", "in_transaction"]

T = TypeVar("T")

_TRIES = 40  # against writers of other processes; those of this one come one after the other
_writers: WeakKeyDictionary[Database, asyncio.Lock] = WeakKeyDictionary()


async def in_transaction(database: Database, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do work in one SERIALIZABLE transaction, again if it has met another one. On the home loop.

    Writers of one process come one after the other: at once they would only end each other.

    Args:
        database: where.
        work: may run many times, so it must have no effect but on the database.

    Raises:
        MemoryContended: it kept meeting others. Nothing was stored.
        DatabaseUnavailable: the database did not come back.
    """
    sent = False  # COMMIT, in the latest try

    async def once() -> T:
        nonlocal sent
        sent = False
        async with database.transaction() as conn:
            result = await work(conn)
            sent = True
            return result

    async def failed(error: Exception, left: int) -> None:
        again = is_serialization_failure(error) or is_collision(error) or is_lost(error)
        if not again:
            raise error
        if is_lost(error) and (sent or not left):
            stored = "Whether the memory was stored is not known: look" if sent else "Nothing was stored"
            raise DatabaseUnavailable(
                f"The connection was lost while memory was stored ({type(error).__name__}). {stored}."
            ) from error
        if not left:
            raise MemoryContended(
                f"Others kept changing the same items, {_TRIES} times over, and nothing was stored. Try again."
            ) from error

    async with _writers.setdefault(database, asyncio.Lock()):
        return await retry(once, failed, tries=_TRIES, outage=database.outage)


async def execute(conn: Connection, statements: Sequence[Statement]) -> None:
    """Execute statements in their order; those that are alike and follow each other without waiting for answers."""
    for text, alike in groupby(statements, operator.itemgetter(0)):
        await conn.executemany(text, [args for _, args in alike])
