"""What the database said, in our words: without the values of rows and arguments."""

from __future__ import annotations

import asyncpg

from superstep.checkpointer.database.leases import is_lost
from superstep.runtime.faults import DatabaseUnavailable, ReadFailed, ReadRefused

__all__ = ["plain", "read_error", "short"]


def short(sql: str) -> str:
    """A statement on one line, cut to what a message can bear."""
    text = " ".join(sql.split())
    return text if len(text) <= 160 else text[:157] + "..."


def plain(error: BaseException) -> str:
    """What the database said, without the values of rows and arguments that details and the driver's errors quote."""
    if type(error) is asyncpg.DataError:  # the server's own errors of this class are subclasses
        return "an argument does not fit the type of its parameter"
    if isinstance(error, asyncpg.DataError):  # class 22 quotes the input even in its primary message
        return f"{type(error).__name__} ({error.sqlstate})"
    return str(error.args[0]) if error.args else type(error).__name__


def read_error(error: BaseException, sql: str) -> Exception:
    """The error to raise for a read that failed."""
    state = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return ReadRefused(f"The statement would write: {short(sql)}. Use step.stage(...) for it.")
    if is_lost(error) and not isinstance(error, asyncpg.InterfaceError):
        return DatabaseUnavailable(
            f"The database went away during a read and did not come back: {type(error).__name__}."
        )
    return ReadFailed(f"The database rejected a read: {plain(error)}. Statement: {short(sql)}", sql=sql, sqlstate=state)
