"""What reads say inside a committing transaction, once some of its writes are applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from superstep.checkpointer.step.answers import Answer, rejected, returned
from superstep.checkpointer.step.statements import scanned
from superstep.checkpointer.step.together import all_hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.database.recent import Recent
    from superstep.checkpointer.step.read_set import Read

__all__ = ["answers_after_writes", "need_no_protection"]

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


class _Unprotected:
    """The transaction itself: a statement that the database rejects is its end."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._rejected: asyncpg.PostgresError | None = None

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[asyncpg.Record]:
        try:
            return await self._conn.fetch(sql, *args)
        except asyncpg.PostgresError as e:
            self._rejected = e
            raise

    async def mend(self) -> None:
        if self._rejected is not None:
            raise self._rejected


async def answers_after_writes(
    conn: Connection, reads: Sequence[Read], apart: Recent, *, protected: bool = True
) -> list[Answer]:
    """What the database says to these reads in the transaction as it is; the transaction stays as it is.

    The reads run in a read-only subtransaction that is rolled back. Postgres keeps what they have read for the
    detection of conflicts all the same. See `together` for `apart`.

    Args:
        conn: in the transaction.
        reads: no two ask the same question.
        apart: see `together.all_hold`.
        protected: without, the two statements around them are saved: for reads that `need_no_protection`.

    Raises:
        asyncpg.PostgresError: without protection, the database rejected one, and the transaction can only end.
    """
    after = _AfterWrites(conn) if protected else _Unprotected(conn)
    if protected:
        await conn.execute(_BEGIN)
    if await all_hold(after, reads, apart):
        answers = [Answer(read.digest) for read in reads]
    else:
        answers = [await _answer(after, read) for read in reads]
    if protected:
        await conn.execute(_END)
    return answers


def need_no_protection(reads: Sequence[Read]) -> bool:
    """Whether these reads may run among writes: plain scans, which call no function that could write or set anything.

    That the same transaction has run them read-only before it wrote vouches for the views among them, and that the
    database does not reject them. It may do so now (the writes have made a divisor zero): the caller then asks again
    in another transaction, with protection.
    """
    return all(scanned(read.sql) is not None and read.columns is not None for read in reads)


async def _answer(after: _AfterWrites | _Unprotected, read: Read) -> Answer:
    try:
        rows = await after.fetch(read.sql, read.args)
    except Exception as e:  # a codec of the user's own may raise anything
        answer = rejected(read.sql, e)
        if answer is None:
            raise
        await after.mend()
        return answer
    return await returned(read.sql, rows)
