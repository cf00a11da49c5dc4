"""The port to the queue: jobs that exist exactly when the transaction does that put them, and workers that do them.

Behind it is PgQueuer (https://pgqueuer.readthedocs.io), an optional package (`superstep-runtime[queue]`), which nothing
but `backend` imports, when it is first needed. Its tables are made by its own statements, in the schema of the saver
and under a prefix, so that a PgQueuer of the user's own in the same database shares nothing with them.

What the queue promises: at least once. What can go wrong, and what comes of it:

*The transaction that puts a job rolls back, or loses a race.* The job is a row of it, and goes with it.

*A worker dies.* It stops to renew its jobs, and after `lease` seconds another one takes them.

*A worker is paused for longer than that and goes on.* Its job is worked on twice at once. When the late one ends, the
job is gone although the other one is still at it, or is put back and taken once more. Nothing is lost that did not end,
but a handler must bear to be run twice, and together: effects have an identity, runs have a fencing token.

*A handler fails.* Its job is put back, after a while that doubles from try to try. The queue never gives a job up: only
its handler knows what that means.

*A worker is cancelled, as by Ctrl-C.* What it was at is put back. PgQueuer's own manager would delete it, listens on a
connection that it cannot do without, and has a least concurrency of two jobs; so its statements are used here and its
loop is not.

*A notification is lost,* as behind a proxy that shares servers among clients. Workers also look by themselves.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer.effects.installing import is_current
from superstep.checkpointer.effects.jobs import Again, Job
from superstep.checkpointer.effects.worker import Worker
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.pool import AnyConnection
    from superstep.checkpointer.effects.backend import Backend
    from superstep.checkpointer.effects.jobs import Handler

__all__ = ["Again", "Job", "Queue", "install_queue", "put_jobs"]

_BACKEND = "superstep.checkpointer.effects.backend"


class Queue:
    """The queue in the schema of a saver. Costs nothing before it is used.

    Args:
        database: of the saver.

    Raises:
        ConfigError: the package is not installed, or `schema` cannot be used. From every method.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def _backend(self) -> Backend:
        return _backend(self._database.schema)

    async def ready(self) -> None:
        """Load the package, in a thread: that takes a moment. Costs nothing when that is done."""
        if _BACKEND not in sys.modules:
            await asyncio.to_thread(_backend, self._database.schema)

    def statement(self, jobs: Sequence[Job]) -> tuple[str, tuple[Any, ...]]:
        """What `put` executes: the SQL and its arguments, for whoever stages it."""
        return self._backend.put(jobs)

    async def put(self, conn: AnyConnection, jobs: Sequence[Job]) -> None:
        """Enqueue, as part of the transaction that the connection is in, if it is in one.

        One whose key waits already, or is worked on, is skipped. In a SERIALIZABLE transaction a rival for the key can
        make this fail with 40001.
        """
        if jobs:
            sql, args = self.statement(jobs)
            await conn.fetch(sql, *args)

    async def check(self, conn: AnyConnection) -> None:
        """Look whether the tables are those that the installed PgQueuer works with.

        Raises:
            QueueMismatch: they are missing or of another version.
        """
        await self._backend.check(conn)

    async def work(
        self, handlers: Mapping[str, Handler], *, concurrency: int, lease: float, stop: asyncio.Event
    ) -> None:
        """Do jobs until `stop` is set; then take no more, and return when those under way have ended.

        If cancelled, cancels its handlers and puts what they were at back, to be taken at once. While the database is
        away it waits for it.

        Args:
            handlers: by kind of job; jobs of other kinds are left to others. Each is given the payload, and how often
                the job was put back before. One that returns has done its job. One that raises `Again` says when to
                try again; any other error is logged, and the job tried again after 1 s, 2 s, 4 s, … up to a minute.
            concurrency: jobs at once, at most.
            lease: seconds after which others take the jobs of a worker that gives no sign of life.
            stop: ends it.

        Raises:
            QueueMismatch: see `check`.
            ConfigError: the numbers are not positive.
        """
        if concurrency < 1 or lease <= 0:
            raise ConfigError(
                f"A worker needs a concurrency of 1 or more and a lease of more than 0 seconds, not {concurrency} and "
                f"{lease}."
            )
        database, backend = self._database, self._backend
        await database.autocommit(backend.check)
        await Worker(database, backend, dict(handlers), concurrency=concurrency, lease=lease).run(stop)


async def put_jobs(conn: AnyConnection, schema: str, jobs: Sequence[Job]) -> None:
    """As `Queue.put`, for whoever has a connection and no saver."""
    sql, args = _backend(schema).put(jobs)
    await conn.fetch(sql, *args)


async def install_queue(conn: AnyConnection, schema: str) -> bool:
    """Make or bring up to date the tables of the queue, if its package is installed. Whether there was something to do.

    One statement when there is nothing to do. Otherwise one transaction. Where PgQueuer cannot use the schema's name,
    or the user may not create tables, nothing is done: who uses the queue is told then (`Queue.check`).

    Args:
        conn: an idle connection, not in a transaction. The tables of the saver are there.
        schema: of the saver, unquoted.

    Raises:
        QueueMismatch: the tables are of another PgQueuer, and this one cannot change them.
    """
    if find_spec("pgqueuer") is None:
        return False
    with suppress(ConfigError, asyncpg.InsufficientPrivilegeError):
        return not await is_current(conn, schema) and await _backend(schema).install(conn)
    return False


def _backend(schema: str) -> Backend:
    try:
        module = import_module(_BACKEND)
    except ModuleNotFoundError as e:
        raise ConfigError(
            f"Effects, queued runs and workers need a package that is not installed ({e.name}). Install "
            f"`superstep-runtime[queue]`, then run `runtime db migrate`, which makes the tables of the queue."
        ) from None
    found: Backend = module.backend(schema)
    return found
