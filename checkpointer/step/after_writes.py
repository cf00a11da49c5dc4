"""What reads say inside a committing transaction, once some of its writes are applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.step.answers import Answer, rejected, returned
from superstep.checkpointer.step.together import all_hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.database.recent import Recent
    from superstep.checkpointer.step.read_set import Read

__all__ = ["answers_after_writes"]

_BEGIN = "SAVEPOINT after_writes; SET LOCAL transaction_read_only = on"
_AGAIN = "ROLLBACK TO SAVEPOINT after_writes; SET LOCAL transaction_read_only = on"
_END = "ROLLBACK TO SAVEPOINT after_writes; RELEASE SAVEPOINT after_writes"


class _AfterWrites:
    """The transaction, in the subtransaction of these reads."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[asyncpg.Record]:
        return await self._conn.fetch(sql, *args)

    async def mend(self) -> None:
        await self._conn.execute(_AGAIN)


async def answers_after_writes(conn: Connection, reads: Sequence[Read], apart: Recent) -> list[Answer]:
    """What the database says to these reads in the transaction as it is; the transaction stays as it is.

    The reads run in a read-only subtransaction that is rolled back. Postgres keeps what they have read for the
    detection of conflicts all the same. See `together` for `apart`.
    """
    await conn.execute(_BEGIN)
    after = _AfterWrites(conn)
    if await all_hold(after, reads, apart):
        answers = [Answer(read.digest) for read in reads]
    else:
        answers = [await _answer(after, read) for read in reads]
    await conn.execute(_END)
    return answers


async def _answer(after: _AfterWrites, read: Read) -> Answer:
    try:
        rows = await after.fetch(read.sql, read.args)
    except Exception as e:  # a codec of the user's own may raise anything
        answer = rejected(read.sql, e)
        if answer is None:
            raise
        await after.mend()
        return answer
    return await returned(read.sql, rows)
