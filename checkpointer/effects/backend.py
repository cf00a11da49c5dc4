"""PgQueuer's statements and tables, bound to a schema of ours. The one module that imports it; imported when needed.

What it reads from the environment (`PGQUEUER_*`) does not count here: names and places are given, by a class of
settings that has no other source. It does not quote names, so a schema must be one that need not be quoted.
"""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import asyncpg
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.queries import EntrypointExecutionParameter, Queries

from superstep.checkpointer.effects.installing import installed_release, note_release
from superstep.runtime.faults import ConfigError, QueueMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from pgqueuer.models import Job as Row
    from pgqueuer.ports.driver import Driver
    from pgqueuer.types import JobId, QueueEntrypoint
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

    from superstep.checkpointer.database.pool import AnyConnection
    from superstep.checkpointer.effects.jobs import Job

__all__ = ["Backend", "Taken", "backend"]

PREFIX = "queue_"
_USABLE = re.compile(r"[a-z_][a-z0-9_]*")
_LOG_DAYS = 1


class _Settings(DBSettings):
    """Names that nothing but a call gives."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """No environment, no files."""
        return (init_settings,)


class Taken(NamedTuple):
    """A job that this worker has taken.

    Attributes:
        id: of the queue.
        kind: see `Job`.
        payload: see `Job`.
        attempts: how often it was put back.
        row: as the queue wants to have it back.
    """

    id: int
    kind: str
    payload: bytes
    attempts: int
    row: Row


class _On:
    """A connection, for the statements of PgQueuer that run on one."""

    def __init__(self, conn: AnyConnection) -> None:
        self._conn = conn

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """See PgQueuer's `Driver`."""
        return [dict(row) for row in await self._conn.fetch(query, *args)]

    async def execute(self, query: str, *args: object) -> str:
        """See PgQueuer's `Driver`."""
        return await self._conn.execute(query, *args)


class Backend:
    """What the queue asks of PgQueuer. Each method is one statement, unless it says otherwise.

    Args:
        schema: of the saver, unquoted; one that PgQueuer can use.
    """

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._named = _settings(schema)

    @property
    def channel(self) -> str:
        """What is notified when jobs are put."""
        return self._named.channel

    @cached_property
    def _enqueue(self) -> str:
        return QueryQueueBuilder(self._named).build_enqueue_query("skip")

    def _queries(self, conn: AnyConnection) -> Queries:
        named = self._named
        builders = QueryBuilderEnvironment(named), QueryQueueBuilder(named), QuerySchedulerBuilder(named)
        return Queries(cast("Driver", _On(conn)), *builders)

    def put(self, jobs: Sequence[Job]) -> tuple[str, tuple[Any, ...]]:
        """The statement that puts jobs, skipping those whose key waits, and its arguments."""
        return self._enqueue, (
            [job.priority for job in jobs],
            [job.kind for job in jobs],
            [job.payload for job in jobs],
            [job.delay or timedelta(0) for job in jobs],
            [job.key for job in jobs],
            [None] * len(jobs),
        )

    async def take(
        self, conn: AnyConnection, worker: UUID, kinds: Iterable[str], most: int, lease: float
    ) -> list[Taken]:
        """Jobs for a worker, those included that others have left alone for longer than their lease."""
        rows = await self._queries(conn).dequeue(
            most,
            {_kind(kind): EntrypointExecutionParameter(concurrency_limit=0) for kind in kinds},
            worker,  # type: ignore[arg-type]  # a NewType of it
            None,
            timedelta(seconds=lease),
        )
        return [Taken(row.id, row.entrypoint, row.payload or b"", row.attempts, row) for row in rows]

    async def beat(self, conn: AnyConnection, ids: Iterable[int]) -> None:
        """Renew the leases of jobs."""
        await self._queries(conn).update_heartbeat(_ids(ids))

    async def done(self, conn: AnyConnection, jobs: Sequence[Taken]) -> None:
        """Delete jobs that have ended."""
        await self._queries(conn).log_jobs([(job.row, "successful", None) for job in jobs])

    async def again(self, conn: AnyConnection, job: Taken, delay: timedelta) -> None:
        """Put a job back."""
        await self._queries(conn).retry_job(job.row, delay, None)

    async def due(self, conn: AnyConnection, kinds: Iterable[str]) -> timedelta | None:
        """How long until the next of the delayed jobs may be taken; `None` without any."""
        return await self._queries(conn).next_deferred_eta([_kind(kind) for kind in kinds])

    async def sweep(self, conn: AnyConnection) -> None:
        """Delete what the queue has noted about jobs that ended long ago. Nothing reads it."""
        log = self._named.qualified.queue_table_log
        await conn.execute(f"DELETE FROM {log} WHERE created < now() - $1::interval", timedelta(days=_LOG_DAYS))  # noqa: S608 - checked names

    async def check(self, conn: AnyConnection) -> None:
        """See `Queue.check`. Some statements."""
        if not await conn.fetchval("SELECT quote_ident($1) = $1", self.schema):
            raise _unusable(self.schema)
        if (await self._queries(conn).plan_upgrade()).statements:
            raise QueueMismatch(
                f"The tables of the queue in schema {self.schema!r} are missing, or of another version than the "
                f"installed PgQueuer {installed_release()} works with. Run `runtime db migrate` (or saver.setup()) "
                f"with this installation; no job is lost by that."
            )

    async def install(self, conn: AnyConnection) -> bool:
        """See `install_queue`. One transaction."""
        # READ COMMITTED: what the last holder of the lock did must be seen. PgQueuer means its statements to be sent
        # one by one, because a label that is added to an enum cannot be used in the same transaction: none uses one.
        async with conn.transaction(isolation="read_committed"):
            await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if not await conn.fetchval("SELECT quote_ident($1) = $1", self.schema):
                return False
            queries = self._queries(conn)
            try:
                if not await queries.schema_is_installed():
                    await queries.install(create_schema=False)
                for statement in (await queries.plan_upgrade()).statements:
                    await conn.execute(statement)
            except asyncpg.InsufficientPrivilegeError:
                raise
            except asyncpg.PostgresError as e:
                raise QueueMismatch(
                    f"The tables of the queue in schema {self.schema!r} cannot be made those of PgQueuer "
                    f"{installed_release()} (SQLSTATE {e.sqlstate}). Nothing was changed. Install the PgQueuer that "
                    f"made them, let workers do what is queued, and drop them."
                ) from e
            await note_release(conn, self.schema)
        return True


_LOCK = 0x5355504551  # another one than that of migrations


@lru_cache(maxsize=16)
def backend(schema: str) -> Backend:
    """For a schema.

    Raises:
        ConfigError: PgQueuer cannot use its name.
    """
    if not _USABLE.fullmatch(schema):
        raise _unusable(schema)
    return Backend(schema)


def _unusable(schema: str) -> ConfigError:
    return ConfigError(
        f"The queue cannot be in schema {schema!r}: PgQueuer takes names of lower-case letters, digits and _ that are "
        f"no reserved words. Open the saver with another schema to use effects and workers."
    )


def _settings(schema: str) -> DBSettings:
    mark = blake2b(schema.encode(), digest_size=8).hexdigest()
    return _Settings(
        prefix=PREFIX,
        db_schema=schema,
        channel=f"superstep_queue_{mark}",  # channels belong to the database and not to a schema
        durability=Durability.balanced,  # what it only notes need not outlive a crash of the server
        widen_id=True,
    )


def _kind(kind: str) -> QueueEntrypoint:
    return kind  # type: ignore[return-value]  # a NewType of it


def _ids(ids: Iterable[int]) -> list[JobId]:
    return list(ids)  # type: ignore[arg-type]  # NewTypes of it
