"""What can go wrong with the database: which errors mean what, and how they are told.

Every decision is made on exception classes and SQLSTATEs. What is told is without the values of rows and arguments.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from superstep.runtime.faults import (
    ConfigError,
    DatabaseUnavailable,
    ReadFailed,
    ReadRefused,
    SchemaMissing,
    StatementRefused,
)

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

__all__ = [
    "DRIVER_ERRORS",
    "MISSING_TABLES",
    "Connection",
    "id_too_long",
    "cut",
    "ended_early",
    "ended_transaction",
    "is_closed",
    "is_collision",
    "is_lost",
    "is_rejection",
    "is_serialization_failure",
    "is_short_of_locks",
    "is_shortage",
    "is_unusable",
    "plain",
    "read_error",
    "schema_missing",
    "short",
]

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Everything that talking to the database can raise."""

MISSING_TABLES = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)
"""What a statement on our tables raises when they are not there."""

_LOST = (
    asyncpg.InternalClientError,  # the driver lost track, as it does when a server ends a connection between two calls
    asyncpg.PostgresConnectionError,  # class 08, ConnectionDoesNotExistError among them
    asyncpg.InterfaceError,  # the driver noticed first that the connection is closed
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidSQLStatementNameError,  # see `_ANOTHER_SESSION`
    asyncpg.DuplicatePreparedStatementError,
    OSError,
)

_NOT_LET_IN = frozenset({"28", "3D", "53"})
"""Classes of SQLSTATEs with which a server refuses a connection that was never made."""

_RAISE = "exec_stmt_raise"
"""The function of the server that a RAISE of PL/pgSQL comes from: its SQLSTATE is the author's choice."""

_SHORTAGE = "53"
"""Class of SQLSTATEs: the server has no room left for what it was to do."""

_OUT_OF_MEMORY = "53200"

_REMEDIES = {
    "53100": "a disk of the server is full: make room on it",
    _OUT_OF_MEMORY: "the server's shared memory has no room for more locks: raise max_pred_locks_per_transaction and "
    "max_locks_per_transaction, or let fewer and smaller reads be under way at once (hold_idle = 0 keeps no locks "
    "between reads)",
    "53400": "a limit of the server's settings is reached, such as temp_file_limit: raise it, or read less at once",
}

_ANOTHER_SESSION = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""A statement that the driver had prepared is not there, or one that it had not is: something between it and the server
gave it another session, or ended what it had prepared. Nothing was executed."""


def is_serialization_failure(error: BaseException) -> bool:
    """SQLSTATE 40001 or 40P01: the transaction is over, and running it again may succeed."""
    return isinstance(error, asyncpg.SerializationError | asyncpg.DeadlockDetectedError)


def is_collision(error: BaseException) -> bool:
    """A constraint between rows was violated (SQLSTATEs 23505, 23P01, 23503): perhaps by a row of another transaction.

    Constraints look at what is committed now, not at the snapshot. So a write may collide with what its own reads have
    not seen: the row was not there when it was looked for, or its parent was.
    """
    return isinstance(
        error, asyncpg.UniqueViolationError | asyncpg.ExclusionViolationError | asyncpg.ForeignKeyViolationError
    )


def is_lost(error: BaseException, conn: Connection | None = None) -> bool:
    """The connection is gone, so what its transaction did is unknown until looked up.

    A server that ends a connection says so with severity FATAL. What it says with ERROR is about a statement, whatever
    the SQLSTATE: functions and triggers choose theirs freely, and foreign servers are lost with one of class 08.
    """
    if isinstance(error, asyncpg.InterfaceError):
        return conn is None or is_closed(conn)
    if isinstance(error, _ANOTHER_SESSION):
        return error.server_source_function != _RAISE
    severity = getattr(error, "severity_en", None)  # the driver's own errors have none
    if severity in ("FATAL", "PANIC") and (getattr(error, "sqlstate", None) or "")[:2] not in _NOT_LET_IN:
        return True
    return isinstance(error, _LOST) and severity != "ERROR"


def is_rejection(error: BaseException) -> bool:
    """The server has read the statement and says no: not for lack of time, nor for the sake of other transactions."""
    if not isinstance(error, asyncpg.PostgresError) or getattr(error, "severity_en", None) != "ERROR":
        return False
    if error.server_source_function == _RAISE:
        return not is_serialization_failure(error)
    return not (is_serialization_failure(error) or is_lost(error) or ended_early(error) is not None)


def is_shortage(error: BaseException) -> bool:
    """The server has run out of something (a disk, memory, what its settings allow): not the statement's fault."""
    return (
        isinstance(error, asyncpg.PostgresError)
        and (error.sqlstate or "")[:2] == _SHORTAGE
        and getattr(error, "severity_en", None) == "ERROR"
        and error.server_source_function != _RAISE
    )


def is_short_of_locks(error: BaseException) -> bool:
    """SQLSTATE 53200: locks of transactions that are under way fill the server's memory. These end."""
    return is_shortage(error) and getattr(error, "sqlstate", None) == _OUT_OF_MEMORY


def is_unusable(error: BaseException) -> bool:
    """Whether the connection cannot be used after this, although it may still be open."""
    return isinstance(error, (*_ANOTHER_SESSION, TimeoutError, asyncpg.InternalClientError))


def ended_early(error: BaseException) -> DatabaseUnavailable | None:
    """The error for a statement of ours that was ended before it had an answer; `None` if that is not what happened."""
    if is_shortage(error):
        return DatabaseUnavailable(
            f"The server ran out of room for a statement, and nothing of it was done: {_shortage(error)}. Then go on "
            f"with `runtime resume` (or input None): what tasks have done until now is kept, as far as it could be "
            f"stored."
        )
    if not isinstance(error, asyncpg.QueryCanceledError | asyncpg.LockNotAvailableError):
        return None
    return DatabaseUnavailable(
        f"A statement was ended before it had an answer (SQLSTATE {error.sqlstate}): it waited too long for a lock, or "
        f"ran into a time limit of the server's. Find who holds the lock (pg_stat_activity, pg_locks), and try again."
    )


def cut(conn: Connection) -> None:
    """End a connection now, without a word to the server."""
    with suppress(asyncpg.InterfaceError):  # it has gone back to its pool by itself
        conn.terminate()


def is_closed(conn: Connection) -> bool:
    """Whether the connection is gone. The pool takes a broken one back by itself, and its proxy then raises."""
    try:
        return conn.is_closed()
    except asyncpg.InterfaceError:
        return True


def schema_missing(schema: str) -> SchemaMissing:
    """The error for a database without our tables."""
    return SchemaMissing(
        f"The checkpointer's tables are not in schema {schema!r} of this database. Call `await saver.setup()` "
        f"(without `await` in a program that has no event loop), or run `runtime db migrate`."
    )


def id_too_long(error: BaseException) -> ConfigError | None:
    """The error for a row of ours that no index can hold: its ids are too long. `None` if this is something else."""
    if not isinstance(error, asyncpg.ProgramLimitExceededError):
        return None
    return ConfigError(
        "The thread id, or the namespace with the names of nested nodes, is too long for an index of PostgreSQL, which "
        "holds about 2,700 bytes. Choose a shorter one."
    )


def ended_transaction(sql: str) -> StatementRefused:
    """The error for a statement of a user's that got past the guards against transaction control."""
    return StatementRefused(
        f"A statement ended the transaction of its super-step: {short(sql)}. Its connection was closed. Take the "
        f"transaction control out of the statement."
    )


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


def _shortage(error: BaseException) -> str:
    """What has run out, and what to do."""
    state = getattr(error, "sqlstate", None) or ""
    return f"{_REMEDIES.get(state, plain(error))} (SQLSTATE {state}: {plain(error)})"


def read_error(error: BaseException, sql: str) -> Exception:
    """The error to raise for a read that failed."""
    state = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return ReadRefused(f"The statement would write: {short(sql)}. Use step.stage(...) for it.")
    if is_lost(error) and not isinstance(error, asyncpg.InterfaceError):
        return DatabaseUnavailable(
            f"The database went away during a read and did not come back: {type(error).__name__}."
        )
    said = _shortage(error) if is_shortage(error) else plain(error)
    return ReadFailed(f"The database rejected a read: {said}. Statement: {short(sql)}", sql=sql, sqlstate=state)
