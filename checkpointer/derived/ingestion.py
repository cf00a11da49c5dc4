"""`Ingestion`: declaring aggregates, ingesting records, looking after what could not be ingested."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from superstep.checkpointer.database.failpoints import hit
from superstep.checkpointer.derived import queries, rebuild
from superstep.checkpointer.derived.batch import Batch, Counts, Outcome, Read, ingest
from superstep.checkpointer.derived.decoding import decoded
from superstep.checkpointer.derived.records import Format, Record, Refusal
from superstep.checkpointer.derived.signals import shown_statement, signal_of
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from datetime import datetime, timedelta

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.derived.aggregates import Aggregate
    from superstep.checkpointer.derived.signals import Key, Signal

__all__ = ["AggregateStatus", "Ingestion", "LateEvent", "PartitionStatus", "Quarantined"]

T = TypeVar("T")

_PAGE = 500  # records of the quarantine at a time


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """How far a partition has been ingested.

    Attributes:
        source: where it comes from.
        partition: which one.
        position: the greatest offset; -1 if there is none.
        watermark: the greatest event time.
        ended: its source has been read to its end.
        events: ingested.
        duplicates: records that came again.
        late: events that were too late for an aggregate.
        ignored: records without content, or of types that are ignored.
        changed_at: when the last batch came.
        quarantined: records in quarantine now.
        rate: events per second over the last minute.
    """

    source: str
    partition: str
    position: int
    watermark: datetime | None
    ended: bool
    events: int
    duplicates: int
    late: int
    ignored: int
    changed_at: datetime
    quarantined: int
    rate: float


@dataclass(frozen=True, slots=True)
class AggregateStatus:
    """A declaration, and whether it can be read.

    Attributes:
        name: by which it is read.
        spec: what is declared.
        status: `ready`, `outdated` (rebuild it) or `building`.
        late: events that came too late for it.
        misfits: events that a rebuild left out, since they were ingested before it was declared so and do not fit.
    """

    name: str
    spec: dict[str, Any]
    status: str
    late: int
    misfits: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record that could not be ingested, and why. See `records.Reason`."""

    source: str
    partition: str
    offset: int
    reason: str
    why: str
    body: bytes
    quarantined_at: datetime


@dataclass(frozen=True, slots=True)
class LateEvent:
    """An event that came too late for an aggregate: `behind` its partition's watermark."""

    source: str
    partition: str
    offset: int
    type: str
    at: datetime
    behind: timedelta
    payload: Any


class Ingestion:
    """Derived state of one database. `saver.ingestion` is one.

    Any number of them, in any number of processes, may ingest at once, the same partition too.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schema = database.schema

    # -- declarations --------------------------------------------------------------------------------------------

    async def declare(self, *aggregates: Aggregate) -> list[str]:
        """Make these the declarations of their names. Idempotent; others stay as they are.

        Returns:
            Names of all aggregates that have to be rebuilt before a step can read them.
        """
        return await self._run(lambda conn: rebuild.declare(conn, self._schema, aggregates))

    async def rebuild(self, name: str, progress: Callable[[int, int], None] | None = None) -> int:
        """Build an aggregate anew from the kept events. Batches go on meanwhile; steps cannot read it.

        If it is interrupted, the aggregate stays unreadable until it is called again, which begins anew.

        Args:
            name: of the aggregate.
            progress: called with the point reached and the one to reach.

        Returns:
            How many events it is built from.

        Raises:
            AggregateNotFound: there is none of that name.
        """
        goal = await self._run(lambda conn: rebuild.begin(conn, self._schema, name))
        total, done = 0, False
        while not done:
            reached, events, done = await self._run(lambda conn: rebuild.build(conn, self._schema, name))
            total += events
            if progress is not None:
                progress(reached, max(goal, reached))
        return total

    async def drop(self, name: str) -> None:
        """Delete an aggregate; its events stay.

        Raises:
            AggregateNotFound: there is none of that name.
        """
        while not await self._run(lambda conn: rebuild.drop(conn, self._schema, name)):
            pass

    # -- records -------------------------------------------------------------------------------------------------

    async def ingest(
        self, source: str, records: Sequence[Record], form: Format | None = None, *, ignore: Iterable[str] = ()
    ) -> Outcome:
        """Ingest a batch in one transaction, each record exactly once, however often it comes.

        Args:
            source: where the records are from.
            records: those of one partition in the order of their offsets.
            form: how they are to be read; JSON Lines if nothing is said.
            ignore: types of events that are not to be kept.

        Returns:
            The ingestion point, and what became of the records.

        Raises:
            ConfigError: an offset is none that the database can hold.
        """
        if not records:
            return Outcome(await self.point(), Counts())
        if wrong := [each for each in records if not 0 <= each.offset < 2**63]:
            raise ConfigError(f"An offset of {source} is {wrong[0].offset}; it must be 0 or more, and less than 2**63.")
        form = form or Format()
        reads = [Read(each, decoded(each.body, form)) for each in records]
        return await self._ingest(source, form, reads, frozenset(ignore))

    async def _ingest(
        self, source: str, form: Format, reads: Sequence[Read], ignore: frozenset[str], *, accept_shapes: bool = False
    ) -> Outcome:
        """Ingest a batch; if the database does not take it, in halves, down to the record that it does not take."""
        batch = Batch(uuid.uuid4(), source, form, reads, accept_shapes)
        try:
            outcome = await self._run(lambda conn: ingest(conn, self._schema, batch, ignore))
        except (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.StatementTooComplexError) as error:
            if len(reads) == 1:
                why = Refusal("rejected", f"The database does not take it (SQLSTATE {error.sqlstate}).")
                if reads[0].said == why:
                    raise
                only = Read(reads[0].record, why, reads[0].watermark, reads[0].again)
                return await self._ingest(source, form, [only], ignore)
            middle, total = len(reads) // 2, Counts()
            for half in (reads[:middle], reads[middle:]):
                outcome = await self._ingest(source, form, half, ignore, accept_shapes=accept_shapes)
                total.add(outcome.counts)
            return Outcome(outcome.point, total)
        await hit("ingest.committed")
        return outcome

    async def positions(self, source: str) -> dict[str, int]:
        """The greatest offset that was ingested of each partition of a source, to go on behind."""
        rows = await self._run(lambda conn: conn.fetch(queries.sql(self._schema)["positions"], source))
        return {row["partition"]: row["position"] for row in rows}

    async def ended(self, source: str, partitions: Iterable[str]) -> None:
        """These partitions have been read to their end: they hold no watermark back any more."""
        names = list(partitions)
        await self._run(lambda conn: conn.execute(queries.sql(self._schema)["end_partitions"], source, names))

    # -- what could not be ingested --------------------------------------------------------------------------------

    async def quarantine(self) -> AsyncIterator[Quarantined]:
        """What is in quarantine, by source, partition and offset."""
        async for row in self._quarantine():
            place = (row["source"], row["partition"], row["position"])
            yield Quarantined(*place, row["reason"], row["why"], row["body"], row["quarantined_at"])

    async def _quarantine(self) -> AsyncIterator[asyncpg.Record]:
        after: tuple[str, str, int] = ("", "", -1)
        while rows := await self._page(*after):
            for row in rows:
                yield row
            after = (rows[-1]["source"], rows[-1]["partition"], rows[-1]["position"])

    async def _page(self, *after: str | int) -> list[asyncpg.Record]:
        return await self._run(lambda conn: conn.fetch(queries.sql(self._schema)["quarantine"], *after, _PAGE))

    async def replay(self, *, accept_schema: bool = False, ignore: Iterable[str] = ()) -> Counts:
        """Ingest again what is in quarantine, by today's declarations; what still does not fit stays there.

        An event counts as if it had been understood when it came first: what has arrived since does not make it late.

        Args:
            accept_schema: take the columns that a table has now for its columns from now on.
            ignore: types of events that are not to be kept.
        """
        total, before, left = Counts(), 0, frozenset(ignore)
        group: list[Read] = []
        at: tuple[str, str] | None = None

        async def flush() -> None:
            if at is not None and group:
                form = Format.load(json.loads(at[1]))
                outcome = await self._ingest(at[0], form, list(group), left, accept_shapes=accept_schema)
                total.add(outcome.counts)
                group.clear()

        async for row in self._quarantine():
            before += 1
            here = (row["source"], row["format"])
            if here != at or len(group) >= _PAGE:
                await flush()
                at = here
            form = Format.load(json.loads(row["format"]))
            record = Record(row["partition"], row["position"], row["body"])
            group.append(Read(record, decoded(record.body, form), row["watermark"], again=True))
        await flush()
        total.quarantined = before - total.events - total.duplicates - total.ignored
        return total

    async def late(self, name: str, limit: int = 1000) -> list[LateEvent]:
        """Events that came too late for an aggregate; at most so many.

        Raises:
            AggregateNotFound: there is none of that name.
        """

        async def look(conn: Connection) -> list[asyncpg.Record]:
            row = rebuild.found(await queries.aggregates(conn, self._schema), name)
            aggregate = queries.plan_of(row).aggregate
            if aggregate.lateness is None:
                return []
            asked = (aggregate.lateness, list(aggregate.events), limit)
            return await conn.fetch(queries.sql(self._schema)["late_events"], *asked)

        return [
            LateEvent(
                row["source"],
                row["partition"],
                row["position"],
                row["type"],
                row["at"],
                row["behind"],
                json.loads(row["payload"]),
            )
            for row in await self._run(look)
        ]

    # -- status --------------------------------------------------------------------------------------------------

    async def partitions(self) -> list[PartitionStatus]:
        """All partitions, by source and name."""
        rows = await self._run(lambda conn: conn.fetch(queries.sql(self._schema)["status"]))
        return [PartitionStatus(**dict(row)) for row in rows]

    async def aggregates(self) -> list[AggregateStatus]:
        """All declarations, by name."""
        rows = await self._run(lambda conn: queries.aggregates(conn, self._schema))
        return [
            AggregateStatus(row["name"], json.loads(row["spec"]), row["status"], row["late"], row["misfits"])
            for row in rows
        ]

    async def point(self) -> int:
        """The ingestion point: how many batches are committed."""
        return await self._run(lambda conn: queries.point(conn, self._schema))

    async def signal(self, name: str, key: Key, *, at: datetime | None = None) -> Signal:
        """What an aggregate says of one key right now, outside of any super-step. In one: `Step.signal`.

        Raises:
            AggregateNotFound: there is none of that name.
            AggregateOutdated: it has to be rebuilt first.
            ConfigError: the key is none, or the moment has no time zone, or the aggregate has no window.
        """
        sql, *args = shown_statement(self._schema, name, key, at)
        row = await self._run(lambda conn: conn.fetchrow(sql, *args))
        return signal_of(name, key, at, row, row)

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Have work done on the database, again if that met other transactions or lost its connection."""

        async def watched(conn: Connection) -> T:
            self._database.connections.watch.begin(conn, pauses=True)  # records are sorted between two statements
            return await work(conn)

        return await self._database.home.call(self._database.autocommit(watched))
