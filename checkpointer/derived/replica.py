"""Tables of another PostgreSQL, replicated here by its own logical replication, as a source of events.

    source ledger ── publication ──▶ subscription ──▶ table here ── trigger ──▶ inbox ── `ReplicaSource` ──▶ events

The trigger runs in the transaction that replicates the row, and the server replicates each row once: so each change
is in the inbox once. It is taken out after the batch that has it is committed; if a crash comes in between, it comes
again and is known. The inbox is there because a batch locks the ingestion point, which a replicating server must not
wait for.

Numbers of the inbox are given before their transactions commit. So what is taken is not "all behind the latest" but
"all that is there": a row that commits late is found late, and its number was never ingested.

See https://www.postgresql.org/docs/current/logical-replication.html.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.database.errors import DRIVER_ERRORS, plain
from superstep.checkpointer.database.pool import unavailable
from superstep.checkpointer.database.server import server_of
from superstep.checkpointer.derived.records import Format, Record
from superstep.runtime.faults import ConfigError, EventSourceFailed, RuntimeFault
from superstep.runtime.sqlfile import beside, quote_identifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    import asyncpg

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["Replica", "ReplicaSource", "ReplicaStatus"]

_sql = beside(__file__)
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_PARTITION = "inbox"
_TIME = "timestamp with time zone"
_CHUNK = 2000
_POLL = 0.2  # seconds between two looks at an empty inbox


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A subscription.

    Attributes:
        name: by which it is ingested.
        status: `running`, or `stopped` because a change could not be applied here.
        tables: that it replicates.
        waiting: changes in the inbox.
        errors: changes that could not be applied, counted by the server.
        what_to_do: about it; `None` if it runs.
    """

    name: str
    status: str
    tables: list[str]
    waiting: int
    errors: int
    what_to_do: str | None


class Replica:
    """Replication into a database: PostgreSQL 15 or newer here, any with `wal_level = logical` at the source."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._texts = _sql(database.schema)

    async def subscribe(self, name: str, url: str, tables: Sequence[str], *, time_column: str | None = None) -> None:
        """Have tables of a source replicated here, and a change of each row made an event from now on.

        Rows that are there already become events too (`op` c). Idempotent: called again, it brings columns here that
        the source's tables have by now, and lets a subscription go on that had stopped for want of them.

        Args:
            name: of the source.
            url: of the source's database, as this server reaches it. It is stored by the server, with its password.
            tables: their names; `public.` unless they say otherwise. Created here where they are not.
            time_column: the column that has an event's time: right for rows that are only ever inserted. Without, it is
                the time when the change arrives here.

        Raises:
            ConfigError: a name is none.
            EventSourceFailed: the source cannot be subscribed to, or this server does not let us.
            DatabaseUnavailable: the source cannot be reached.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"A replica's name is made of small letters, digits and _, at most 41: {name!r}.")
        full = [each if "." in each else f"public.{each}" for each in tables]
        if not full:
            raise ConfigError(f"There is no table to replicate for {name}.")
        async with _source_of(url) as source:
            columns = await self._published(source, name, full, time_column)
        with _explained(f"This database cannot subscribe to {name}"):
            await self._do(lambda conn: self._receive(conn, name, url, columns, time_column))

    async def unsubscribe(self, name: str) -> None:
        """End the replication, and the source's slot for it. Tables and events stay.

        Raises:
            EventSourceFailed: this server does not let us, or does not reach the source.
        """

        async def end(conn: Connection) -> None:
            for row in await conn.fetch(self._texts["tables_of"], _object(name)):
                await conn.execute(f"DROP TRIGGER {quote_identifier(_object(name))} ON {row['name']}")
            await conn.execute(f"DROP SUBSCRIPTION IF EXISTS {quote_identifier(_object(name))}")

        with _explained(f"The subscription {name} cannot be ended"):
            await self._do(end)

    async def status(self) -> list[ReplicaStatus]:
        """All subscriptions of this database that were made here; none where the server is too old for them."""
        if not await self._do(lambda conn: conn.fetchval(self._texts["is_new_enough"])):
            return []
        return [_status(row) for row in await self._do(lambda conn: conn.fetch(self._texts["replicas"]))]

    def source(self, name: str, *, follow: bool = False) -> ReplicaSource:
        """The inbox of a subscription as a source."""
        return ReplicaSource(self, name, follow=follow)

    async def inbox(self, name: str, but: Sequence[int]) -> list[asyncpg.Record]:
        """Changes in the inbox of a source but for these, by number; so many at most."""
        rows: list[asyncpg.Record] = await self._do(lambda conn: conn.fetch(self._texts["inbox"], name, but, _CHUNK))
        return rows

    async def taken(self, name: str, numbers: Sequence[int]) -> None:
        """These changes are ingested."""
        await self._do(lambda conn: conn.execute(self._texts["taken"], name, numbers))

    async def _published(
        self, source: Any, name: str, tables: Sequence[str], time_column: str | None
    ) -> dict[str, list[asyncpg.Record]]:
        """Publish the tables at the source; their columns."""
        level = await source.fetchval(self._texts["wal_level"])
        if level != "logical":
            raise EventSourceFailed(
                f"The source {name} runs with wal_level = {level}. Set it to logical there, and restart it."
            )
        columns = {table: await source.fetch(self._texts["columns"], _quoted(table)) for table in tables}
        if missing := [table for table, found in columns.items() if not found]:
            raise EventSourceFailed(f"The source {name} has no table {missing[0]}.")
        for table, found in columns.items():
            if time_column is not None and (time_column, _TIME) not in [(each["name"], each["type"]) for each in found]:
                raise EventSourceFailed(
                    f"The table {table} of the source {name} has no column {time_column} of type {_TIME}."
                )
        names = ", ".join(map(_quoted, tables))
        there = await source.fetchval(self._texts["has_publication"], _object(name))
        publication = quote_identifier(_object(name))
        verb = f"ALTER PUBLICATION {publication} SET" if there else f"CREATE PUBLICATION {publication} FOR"
        await source.execute(f"{verb} TABLE {names}")
        return columns

    async def _receive(
        self,
        conn: Connection,
        name: str,
        url: str,
        tables: Mapping[str, Sequence[asyncpg.Record]],
        time_column: str | None,
    ) -> None:
        """Make tables and triggers, then subscribe. What is there already is left as it is."""
        schema, trigger = quote_identifier(self._database.schema), quote_identifier(_object(name))
        for table, columns in tables.items():
            await conn.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(table).rpartition('.')[0]}")
            await conn.execute(_create_table(table, columns))
            for each in columns:
                column = f"{quote_identifier(each['name'])} {each['type']}"
                await conn.execute(f"ALTER TABLE {_quoted(table)} ADD COLUMN IF NOT EXISTS {column}")
            await conn.execute(f"DROP TRIGGER IF EXISTS {trigger} ON {_quoted(table)}")
            given = ", ".join("'" + each.replace("'", "''") + "'" for each in (name, time_column) if each is not None)
            await conn.execute(
                f"CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {_quoted(table)} "
                f"FOR EACH ROW EXECUTE FUNCTION {schema}.derived_take_row({given})"
            )
            # A server that replicates fires no others.
            await conn.execute(f"ALTER TABLE {_quoted(table)} ENABLE ALWAYS TRIGGER {trigger}")
        await conn.execute(self._texts["forget_shapes"], name)
        if await conn.fetchval(self._texts["has_subscription"], _object(name)):
            await conn.execute(f"ALTER SUBSCRIPTION {trigger} ENABLE")
            await conn.execute(f"ALTER SUBSCRIPTION {trigger} REFRESH PUBLICATION")
        else:
            await conn.execute(await conn.fetchval(self._texts["subscribe"], _object(name), url))

    async def _do(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        return await self._database.home.call(self._database.autocommit(work))


class ReplicaSource:
    """See `EventSource`. The payload of an event is as Debezium's: `op`, `before`, `after`; its type the table.

    Args:
        replica: where the inbox is.
        name: of the source.
        follow: wait for more, for ever.
    """

    partitions = (_PARTITION,)

    def __init__(self, replica: Replica, name: str, *, follow: bool = False) -> None:
        self.name = name
        self.form = Format("debezium")
        self._replica = replica
        self._follow = follow
        self._given: list[int] = []

    async def records(self, after: Mapping[str, int]) -> AsyncIterator[Record | None]:
        """See `EventSource`. What is ingested already may come again, whatever `after` says."""
        while True:
            rows = await self._replica.inbox(self.name, self._given)
            for row in rows:
                self._given.append(row["seq"])
                yield Record(_PARTITION, row["seq"], row["body"].encode())
            if rows:
                continue
            if not self._follow:
                return
            yield None
            await asyncio.sleep(_POLL)

    async def committed(self, positions: Mapping[str, int]) -> None:
        """See `EventSource`."""
        upto = positions[_PARTITION]
        at = self._given.index(upto) + 1  # in the order in which they were given, which is that of the batches
        await self._replica.taken(self.name, self._given[:at])
        del self._given[:at]  # not before: until they are taken out they are found again


@asynccontextmanager
async def _source_of(url: str) -> AsyncIterator[Any]:
    with unavailable(url):
        conn = await server_of(url).connect()
    try:
        with _explained("The source cannot be subscribed to"):
            yield conn
    finally:
        conn.terminate()


class _explained:
    """Says what could not be done, for errors of the database."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if isinstance(error, DRIVER_ERRORS) and not isinstance(error, RuntimeFault):
            state = getattr(error, "sqlstate", None)
            right = " The role needs pg_create_subscription, or to be a superuser." if state == "42501" else ""
            raise EventSourceFailed(f"{self._what}: {plain(error)} (SQLSTATE {state}).{right}") from error


def _create_table(table: str, columns: Sequence[asyncpg.Record]) -> str:
    listed = [f"{quote_identifier(each['name'])} {each['type']}" for each in columns]
    if key := [quote_identifier(each["name"]) for each in columns if each["key"]]:
        listed.append(f"PRIMARY KEY ({', '.join(key)})")
    return f"CREATE TABLE IF NOT EXISTS {_quoted(table)} ({', '.join(listed)})"


def _quoted(table: str) -> str:
    return ".".join(quote_identifier(part) for part in table.split(".", 1))


def _object(name: str) -> str:
    """What publication, subscription, slot and triggers of a source are called."""
    return f"superstep_{name}"


def _status(row: asyncpg.Record) -> ReplicaStatus:
    name = row["name"].removeprefix("superstep_")
    todo = None
    if not row["enabled"]:
        todo = (
            f"The replica {name} has stopped at a change that does not fit here: most likely a table of the source has "
            f"other columns now. Nothing is lost. Repeat `runtime ingest subscribe {name} …`, which takes new columns "
            f"over; the server's log says what it was."
        )
    status = "running" if row["enabled"] else "stopped"
    return ReplicaStatus(name, status, list(row["tables"]), row["waiting"], row["errors"], todo)
