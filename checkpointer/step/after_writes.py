"""What reads say inside a committing transaction, once some of its writes are applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.step.answers import Answer, rejected, returned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.read_set import Read

__all__ = ["answers_after_writes"]

_BEGIN = "SAVEPOINT after_writes; SET LOCAL transaction_read_only = on"
_AGAIN = "ROLLBACK TO SAVEPOINT after_writes; SET LOCAL transaction_read_only = on"
_END = "ROLLBACK TO SAVEPOINT after_writes; RELEASE SAVEPOINT after_writes"


async def answers_after_writes(conn: Connection, reads: Sequence[Read]) -> list[Answer]:
    """What the database says to these reads in the transaction as it is; the transaction stays as it is.

    The reads run in a read-only subtransaction that is rolled back. Postgres keeps what they have read for the
    detection of conflicts all the same.
    """
    await conn.execute(_BEGIN)
    answers = [await _answer(conn, read) for read in reads]
    await conn.execute(_END)
    return answers


async def _answer(conn: Connection, read: Read) -> Answer:
    try:
        rows = await conn.fetch(read.sql, *read.args)
    except Exception as e:  # a codec of the user's own may raise anything
        answer = rejected(read.sql, e)
        if answer is None:
            raise
        await conn.execute(_AGAIN)
        return answer
    return await returned(read.sql, rows)
