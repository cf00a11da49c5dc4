"""Reading the tables of LangGraph's Postgres savers. Nothing here writes: each transaction is READ ONLY.

A thread is read in one transaction on one snapshot (REPEATABLE READ), however many pages it has: a program that goes on
running it meanwhile is not seen, and what is read fits together. What is in memory at once is one page: so many rows;
of values and writes, which may be large, so many bytes and one row at most.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.database.errors import DRIVER_ERRORS, MISSING_TABLES
from superstep.checkpointer.database.pool import unavailable
from superstep.checkpointer.database.server import server_of
from superstep.checkpointer.imports.rows import Checkpoint, Value, Write
from superstep.runtime.faults import DatabaseUnavailable, InputInvalid
from superstep.runtime.masking import without_password
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import asyncpg

    _Fetch = Callable[..., Awaitable[Sequence[asyncpg.Record]]]

__all__ = ["PostgresTables", "ThreadThere"]

_sql = beside(__file__)

_BYTES = 8 << 20  # of a page
_NEEDED = frozenset(
    {
        *(f"checkpoints.{name}" for name in ("thread_id", "checkpoint_ns", "checkpoint_id", "parent_checkpoint_id")),
        *("checkpoints.checkpoint", "checkpoints.metadata"),
        *(f"checkpoint_blobs.{name}" for name in ("thread_id", "checkpoint_ns", "channel", "version", "type", "blob")),
        *(f"checkpoint_writes.{name}" for name in ("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx")),
        *(f"checkpoint_writes.{name}" for name in ("task_path", "channel", "type", "blob")),
    }
)
_FIRST_IDX, _LAST_IDX = -(1 << 31), (1 << 31) - 1


class PostgresTables:
    """The tables, on a connection of their own. Use `opened`."""

    def __init__(self, conn: asyncpg.Connection[asyncpg.Record], url: str, schema: str, page: int) -> None:
        self._conn = conn
        self._url = url
        self._page = page
        self._schema = schema
        self._sql = _sql(schema)

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, *, schema: str, page: int) -> AsyncIterator[PostgresTables]:
        """Connect, and see that the tables are there.

        Args:
            url: of the database.
            schema: of the tables, unquoted.
            page: rows that are read at once.

        Raises:
            DatabaseUnavailable: no connection.
            InputInvalid: there are no such tables, or they are of a release too old.
        """
        with unavailable(url):
            # Nothing is prepared by name, so that any proxy will do; any release of PostgreSQL will too.
            conn = await server_of(url).connect(statement_cache_size=0)
        try:
            tables = cls(conn, url, schema, page)
            await tables.check()
            yield tables
        finally:
            await conn.close(timeout=5)

    async def check(self) -> None:
        """See that the tables are there, with all columns. See `opened`."""
        there = {row["name"] for row in await self._fetch("columns", self._schema)}
        place = f"schema {self._schema!r} of {without_password(self._url)}"
        if not any(name.startswith("checkpoints.") for name in there):
            raise InputInvalid(
                f"There is no table `checkpoints` of LangGraph's Postgres saver in {place}, or this user may not read "
                f"it. Name the schema it is in with --from-schema, or grant SELECT on the three tables."
            )
        if missing := sorted(_NEEDED - there):
            raise InputInvalid(
                f"The tables in {place} lack {', '.join(missing)}. Let `setup()` of a current AsyncPostgresSaver bring "
                f"them up to date. Tables of a ShallowPostgresSaver, which has no history, cannot be imported."
            )

    async def thread_ids(self, after: str) -> list[str]:
        """A page of the ids of threads, in an order of the server's."""
        return [row["thread_id"] for row in await self._fetch("threads", after, self._page)]

    async def how_many(self) -> int:
        """How many threads there are."""
        (row,) = await self._fetch("how_many")
        return int(row[0])

    @asynccontextmanager
    async def thread(self, thread_id: str) -> AsyncIterator[ThreadThere]:
        """A thread, all of it as it is at one moment."""
        transaction = self._conn.transaction(isolation="repeatable_read", readonly=True)
        try:
            await transaction.start()
        except DRIVER_ERRORS as error:
            raise self._lost(error) from error
        try:
            yield ThreadThere(thread_id, self._fetch, self._page)
        finally:
            if not self._conn.is_closed():
                await transaction.rollback()

    async def _fetch(self, name: str, *parameters: Any) -> Sequence[asyncpg.Record]:
        try:
            return await self._conn.fetch(self._sql[name], *parameters)
        except MISSING_TABLES as error:
            raise InputInvalid(f"A table of LangGraph's saver is not in schema {self._schema!r} any more.") from error
        except DRIVER_ERRORS as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"{without_password(self._url)}, from which threads are imported, did not answer "
            f"({type(error).__name__}). Every thread that was imported is there as a whole: repeat the import."
        )


class ThreadThere:
    """One thread in the tables."""

    def __init__(self, thread_id: str, fetch: _Fetch, page: int) -> None:
        self.thread_id = thread_id
        self._fetch_any = fetch
        self._page = page

    async def ids(self) -> set[tuple[str, str]]:
        """Namespace and id of each checkpoint."""
        return {(row["ns"], row["checkpoint_id"]) for row in await self._fetch("ids")}

    async def how_many_writes(self) -> int:
        """How many pending writes there are that can be found."""
        (row,) = await self._fetch("how_many_writes")
        return int(row[0])

    async def checkpoints(self) -> AsyncIterator[list[Checkpoint]]:
        """Pages of checkpoints, in each namespace the oldest first."""
        behind = ("", "")
        while rows := await self._fetch("checkpoints", *behind, self._page):
            yield [_checkpoint(row) for row in rows]
            if len(rows) < self._page:
                return
            behind = (rows[-1]["ns"], rows[-1]["checkpoint_id"])

    async def values(self) -> AsyncIterator[list[Value]]:
        """Pages of the values of channels."""
        async for rows in self._pages("values", ("", "", "")):
            yield [Value(*tuple(row.values())[:-1]) for row in rows]

    async def writes(self, *, special: bool = False) -> AsyncIterator[list[Write]]:
        """Pages of pending writes; only those of LangGraph's special channels, if that is asked for."""
        last = -1 if special else _LAST_IDX
        async for rows in self._pages("writes", ("", "", "", _FIRST_IDX), last):
            yield [Write(*tuple(row.values())[:-1]) for row in rows]

    async def sends(self, parent_id: str) -> list[tuple[str, bytes]]:
        """What tasks of the super-step after a checkpoint have sent, serialized."""
        return [(row["kind"], row["data"]) for row in await self._fetch("sends", parent_id)]

    async def _pages(self, name: str, behind: tuple[Any, ...], *more: Any) -> AsyncIterator[Sequence[asyncpg.Record]]:
        while rows := await self._fetch(name, *behind, self._page, _BYTES, *more):
            yield rows
            if len(rows) == rows[0]["found"] < self._page:
                return
            behind = tuple(rows[-1].values())[: len(behind)]

    async def _fetch(self, name: str, *parameters: Any) -> Sequence[asyncpg.Record]:
        return await self._fetch_any(name, self.thread_id, *parameters)


def _checkpoint(row: asyncpg.Record) -> Checkpoint:
    body, metadata = json.loads(row["body"]), json.loads(row["metadata"])
    return Checkpoint(row["ns"], row["checkpoint_id"], row["parent_id"] or None, body, metadata, row["stored"])
