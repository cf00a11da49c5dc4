"""What the database says to a read: rows, or a rejection. Both are facts, and some failures are neither.

A read that the database rejects is an observation: that a quantity is zero (a division by it), that a text is no
number, that a table is not there, that the user may not see it. A node may decide on it, so it is logged and validated
like rows are.

*What is compared* is the SQLSTATE, since message texts are for humans and change with the server's language. Where a
function of the user's own said it (RAISE), the message is data as a row's value is, so it counts too. What the driver
cannot turn into a Python value (a date beyond the year 9999), or cannot be compared, is a fact of the same sort.

*What is no fact*: whatever can be otherwise on the next try although no row has changed: a lost connection, a cancelled
statement or one that took too long, a serialization failure, a lock not granted, resources that ran out, a foreign
server out of reach, a defect of the server. Nor arguments that the driver cannot encode: the database was never asked.

*In a held transaction* a rejected read needs no second look at the commit, although its subtransaction was rolled back.
The decision rests on what the snapshot showed, and Postgres keeps predicate locks when a subtransaction is rolled back,
for exactly this reason: what is read in one may cause that it is rolled back (src/backend/storage/lmgr/README-SSI). A
transaction that writes those rows and is not serializable with ours therefore aborts one of the two, as after any read.
The catalogs are the exception: they are read as they are now, not in the snapshot, and SSI does not watch them. So what
was rejected for what is in them (no such table, no such column, no right) is asked again by the commit, see
`Answer.of_catalog`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer.database.errors import DRIVER_ERRORS, read_error, short
from superstep.checkpointer.step.read_set import RowDigest, digest_rejection
from superstep.checkpointer.step.value_bytes import NoExactForm
from superstep.runtime.faults import ReadFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Answer", "rejected", "returned"]

_PASSING = frozenset({"08", "25", "40", "53", "57", "58", "F0", "XX"})  # classes of SQLSTATEs
_PASSING_STATES = frozenset({"55P03", "HV00N"})  # a lock not granted, a foreign server out of reach
_READ_ONLY = "25006"  # of a class that is no fact otherwise: the statement would write, here and now
_AT_ONCE = 500  # rows that are digested before others may run: some milliseconds
_OF_CATALOG = frozenset({"0A", "3D", "3F", "42"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the database said to a read.

    Attributes:
        digest: of the rows or of the rejection.
        rows: what it returned.
        error: what to raise instead.
        of_catalog: the rejection rests on what no snapshot covers.
    """

    digest: bytes
    rows: Sequence[asyncpg.Record] = ()
    error: Exception | None = None
    of_catalog: bool = False

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the columns, none if there are no rows; `None` of a rejection."""
        if self.error is not None:
            return None
        return tuple(self.rows[0].keys()) if self.rows else ()

    @property
    def without_rows(self) -> Answer:
        """What is left to compare with."""
        return Answer(self.digest, (), self.error, self.of_catalog) if self.rows else self


async def returned(sql: str, rows: Sequence[asyncpg.Record]) -> Answer:
    """The answer that rows are. Of many rows it lets others run in between."""
    whole = RowDigest()
    try:
        for at in range(0, len(rows), _AT_ONCE):
            if at:
                await asyncio.sleep(0)
            whole.add(rows[at : at + _AT_ONCE])
        return Answer(whole.digest(), rows)
    except NoExactForm as e:
        error = ReadFailed(f"A read was refused: {e}. Statement: {short(sql)}", sql=sql, sqlstate=None)
        error.__cause__ = e
        return Answer(digest_rejection("no exact form", e.type_name), error=error)


def rejected(sql: str, error: Exception) -> Answer | None:
    """The answer that a failure is; `None` if it is no fact."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if not _is_fact(error, state):
            return None
        of_user = error.server_source_function == "exec_stmt_raise"
        digest = digest_rejection(state, str(error.message) if of_user else "")
        answer = Answer(digest, error=read_error(error, sql), of_catalog=state[:2] in _OF_CATALOG)
    elif isinstance(error, DRIVER_ERRORS):
        return None
    else:  # a codec: the database did answer
        text = (
            f"The driver cannot represent what a read returned ({type(error).__name__}). Read the column as text "
            f"(column::text). Statement: {short(sql)}"
        )
        digest = digest_rejection("unreadable", type(error).__name__)
        answer = Answer(digest, error=ReadFailed(text, sql=sql, sqlstate=None))
    if answer.error is not None:
        answer.error.__cause__ = error
    return answer


def _is_fact(error: asyncpg.PostgresError, state: str) -> bool:
    of_server = error.severity is not None  # the driver's own errors have none
    stale_plan = isinstance(error, asyncpg.InvalidCachedStatementError)
    passing = (state[:2] in _PASSING and state != _READ_ONLY) or state in _PASSING_STATES
    return of_server and not stale_plan and not passing
