"""Several reads asked in one statement: what they rest on is validated in one round trip, however many they are.

Each becomes a subquery that returns its rows as an array. That tells whether they all say what they said before, and no
more: wherever it does not look the same, each is asked by itself, and those answers decide. So nothing here has to be
exact about why: a plan that returns other rows of a LIMIT, a column whose type the driver cannot read within a row, a
read that the database rejects now, which takes the others with it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from superstep.checkpointer.database.errors import is_serialization_failure, is_short_of_locks
from superstep.checkpointer.step.read_set import RowDigest
from superstep.checkpointer.step.statements import sets_session
from superstep.checkpointer.step.tokens import Kind, first_word, tokens, with_parameters_from
from superstep.checkpointer.step.value_bytes import NoExactForm

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.recent import Recent
    from superstep.checkpointer.step.read_set import Read

__all__ = ["Asks", "all_hold"]

_QUERIES = frozenset({"select", "with", "values"})  # what may stand in a FROM
_MOST = 64  # reads in one statement


class Asks(Protocol):
    """An open transaction, as `Snapshot` is one."""

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[asyncpg.Record]:
        """Rows of a statement."""

    async def mend(self) -> None:
        """Go on after a statement that failed."""


async def all_hold(asks: Asks, reads: Sequence[Read], apart: Recent) -> bool:
    """Whether different reads certainly say what they said before, all of them. If not, nothing is known of any.

    All or none, since they are asked in their order: one that has to be asked by itself may rest on what a function in
    one before it has set. Nothing of that is left if they do not hold.

    Args:
        asks: the transaction.
        reads: no two ask the same question.
        apart: statements that do not bear company, as far as one has found out.

    Raises:
        One of `DRIVER_ERRORS`: the transaction or its connection is gone.
    """
    if len(reads) < 2 or not all(_is_able(read) and read.sql not in apart for read in reads):
        return False
    for at in range(0, len(reads), _MOST):
        if not await _hold(asks, reads[at : at + _MOST], apart):
            return False
    return True


def _is_able(read: Read) -> bool:
    return read.columns is not None and not read.after and _may_be_part(read.sql)


@lru_cache(maxsize=1024)
def _may_be_part(sql: str) -> bool:
    """Whether it is a query whose text tells what its columns are called: after `*` and `TABLE` they may be renamed."""
    if first_word(sql) not in _QUERIES or sets_session(sql):
        return False
    before = ""
    for token in tokens(sql):
        if (token.text == "*" and before != "(") or (token.kind is Kind.WORD and token.text == "table"):
            return False
        before = token.text
    return True


async def _hold(asks: Asks, reads: Sequence[Read], apart: Recent) -> bool:
    parts, args = [], list[Any]()
    for read in reads:
        query = with_parameters_from(read.sql, len(args))
        if query is None:
            apart.add(read.sql)
            return False
        parts.append(f"ARRAY(SELECT ROW(q.*) FROM (\n{query}\n) AS q)")  # noqa: S608 - the read as it was asked before
        args += read.args
    try:
        (answers,) = await asks.fetch(f"SELECT {', '.join(parts)}", args)
    except Exception as e:  # a codec of the user's own may raise anything
        if is_serialization_failure(e) or is_short_of_locks(e):
            raise
        for sql in {read.sql for read in reads}:
            apart.add(sql)
    else:
        if all(_digest(read, rows) == read.digest for read, rows in zip(reads, answers, strict=True)):
            return True
    await asks.mend()  # fails if the connection is lost
    return False


def _digest(read: Read, rows: Sequence[tuple[Any, ...]]) -> bytes | None:
    whole = RowDigest(read.columns)
    try:
        whole.add(rows)
    except NoExactForm:
        return None
    return whole.digest()
