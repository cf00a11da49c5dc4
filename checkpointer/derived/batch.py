"""One batch of records: one transaction with what they add to the aggregates.

    lock      the table of the ingestion point: before the snapshot, so that it sees all batches before it
    look      what was ingested already, what is declared, how far the partitions are
    sort      each record is a duplicate, an event, in quarantine, or nothing
    store     events, quarantine, aggregates, positions, the next ingestion point
    COMMIT

Interleavings:
- Two batches, of one partition or of several, of one process or of several: one after the other. Without the lock both
  could find a record new. Then the primary key of events lets only one of them commit, but at SERIALIZABLE they would
  also abort each other wherever they add to the same row.
- Points and commits are in the same order, since the lock is held until the end of the transaction. A sequence would
  give 7 to a batch that commits after 8, and whoever saw 8 would believe to have seen 7.
- A process that dies: its transaction is rolled back. It starts again from the positions, which were stored with the
  events; a source that goes further back gives duplicates, which are recognised by their identity.
- The answer to COMMIT is lost: the batch is tried again, finds its own name, and says what it did the first time.
- A step that reads an aggregate meanwhile sees all of a batch or nothing. The transaction is SERIALIZABLE, as those of
  steps are, so what PostgreSQL knows of conflicts includes it; it reads nothing that steps write, so it never aborts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.database.failpoints import hit
from superstep.checkpointer.derived import queries
from superstep.checkpointer.derived.folding import Fold, Lateness, Plan, Seen
from superstep.checkpointer.derived.paths import Misfit
from superstep.checkpointer.derived.records import Event, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    import asyncpg

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.derived.folding import Contribution
    from superstep.checkpointer.derived.records import Format, Record

__all__ = ["Batch", "Counts", "Outcome", "Read", "ingest"]

_AHEAD = timedelta(days=1)
_COUNTS = ("events", "duplicates", "quarantined", "late", "ignored")


@dataclass(frozen=True, slots=True)
class Read:
    """A record with what it says.

    Attributes:
        record: as the source gave it.
        said: the event, why it is none, or `None` if there is nothing in it.
        watermark: of its partition when it came first, for one that comes out of quarantine.
        again: it comes out of quarantine.
    """

    record: Record
    said: Event | Refusal | None
    watermark: datetime | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What is ingested in one transaction: records of one source, of each partition in the order of their offsets."""

    id: UUID
    source: str
    form: Format
    reads: Sequence[Read]
    accept_shapes: bool = False


@dataclass(slots=True)
class Counts:
    """What became of records.

    Attributes:
        events: ingested.
        duplicates: ingested before.
        quarantined: put aside, with why.
        late: of the events: too late for one aggregate or more.
        ignored: of no content, or of a type that is to be ignored.
    """

    events: int = 0
    duplicates: int = 0
    quarantined: int = 0
    late: int = 0
    ignored: int = 0

    def add(self, other: Counts) -> None:
        """Count what another one has counted."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Outcome:
    """What a batch came to. `point` is its ingestion point."""

    point: int
    counts: Counts


@dataclass(slots=True)
class _Partition:
    """A partition, while a batch is sorted."""

    id: int
    position: int
    lateness: Lateness
    counts: Counts = field(default_factory=Counts)


@dataclass(slots=True)
class _Sorted:
    """A batch, sorted into rows for the tables."""

    fold: Fold = field(default_factory=Fold)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    quarantine: list[tuple[Any, ...]] = field(default_factory=list)
    shapes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    released: list[tuple[int, int]] = field(default_factory=list)


async def ingest(conn: Connection, schema: str, batch: Batch, ignore: frozenset[str]) -> Outcome:
    """Ingest a batch, exactly once however often this is called. On a connection that is in no transaction.

    Raises:
        asyncpg.DataError: the database does not take one of the records. Nothing was done.
    """
    async with conn.transaction(isolation="serializable"):
        await queries.lock(conn, schema)
        await hit("ingest.locked")
        texts = queries.sql(schema)
        if done := await conn.fetch(texts["batch"], batch.id):
            return _told(done)
        names = sorted({read.record.partition for read in batch.reads})
        await conn.execute(texts["add_partitions"], batch.source, names)
        rows = await conn.fetch(texts["partitions"], batch.source, names)
        partitions = {r["partition"]: _Partition(r["id"], r["position"], Lateness(r["watermark"])) for r in rows}
        sorter = await _sorter(conn, schema, batch, partitions, ignore)
        found = sorter.sort()
        await hit("ingest.sorted")
        return await _store(conn, schema, batch, partitions, found)


def _told(rows: Sequence[asyncpg.Record]) -> Outcome:
    total = Counts()
    for row in rows:
        total.add(Counts(*(row[name] for name in _COUNTS)))
    return Outcome(rows[0]["point"], total)


async def _sorter(
    conn: Connection, schema: str, batch: Batch, partitions: Mapping[str, _Partition], ignore: frozenset[str]
) -> _Sorter:
    """What there is to know for sorting a batch."""
    texts = queries.sql(schema)
    declared = await queries.aggregates(conn, schema)
    old, again = [], []
    for read in batch.reads:
        partition = partitions[read.record.partition]
        if read.again:
            again.append((partition.id, read.record.offset))
        elif read.record.offset <= partition.position:
            old.append((partition.id, read.record.offset))
    known = await conn.fetch(texts["known"], *queries.columns_of(old, 2)) if old else []
    known += await conn.fetch(texts["ingested"], *queries.columns_of(again, 2)) if again else []
    own = [read.said.id for read in batch.reads if isinstance(read.said, Event) and read.said.id is not None]
    identities = [_identity(batch.source, each) for each in own]
    seen = await conn.fetch(texts["known_identities"], identities) if identities else ()
    shaped = any(isinstance(read.said, Event) and read.said.columns for read in batch.reads)
    shapes = await conn.fetch(texts["shapes"], batch.source) if shaped else ()
    return _Sorter(
        batch,
        partitions,
        ignore,
        plans=[queries.plan_of(row) for row in declared],
        ready={row["id"] for row in declared if row["status"] == "ready"},
        known={(row["partition_id"], row["position"]) for row in known},
        identities={row["identity"] for row in seen},
        shapes={row["relation"]: tuple(row["columns"]) for row in shapes},
        now=await conn.fetchval(texts["clock"]),
    )


class _Sorter:
    """Says of each record what it is."""

    def __init__(
        self,
        batch: Batch,
        partitions: Mapping[str, _Partition],
        ignore: frozenset[str],
        *,
        plans: Sequence[Plan],
        ready: set[int],
        known: set[tuple[int, int]],
        identities: set[bytes],
        shapes: dict[str, tuple[str, ...]],
        now: datetime,
    ) -> None:
        self._batch, self._partitions, self._ignore = batch, partitions, ignore
        self._known, self._identities, self._shapes = known, identities, shapes
        self._latest = now + _AHEAD
        self._types: dict[str, list[Plan]] = {}
        for plan in plans:
            for type_ in plan.aggregate.events:
                self._types.setdefault(type_, []).append(plan)
        self._ready = ready
        self._found = _Sorted()

    def sort(self) -> _Sorted:
        """All records, in their order."""
        for read in self._batch.reads:
            partition = self._partitions[read.record.partition]
            if (partition.id, read.record.offset) in self._known:
                partition.counts.duplicates += 1
                continue
            self._known.add((partition.id, read.record.offset))
            said = self._judged(read.said)
            if said is None:
                partition.counts.ignored += 1
            elif isinstance(said, Refusal):
                self._put_aside(partition, read, said)
            elif isinstance(said, bytes):
                partition.counts.duplicates += 1
            else:
                self._take(partition, read, *said)
            if read.again and not isinstance(said, Refusal):
                self._found.released.append((partition.id, read.record.offset))
            partition.position = max(partition.position, read.record.offset)
        return self._found

    def _judged(
        self, said: Event | Refusal | None
    ) -> Refusal | bytes | tuple[Event, bytes | None, list[tuple[Plan, Contribution]]] | None:
        """Nothing, a refusal, the identity of an event that was ingested before, or a new event with what it gives."""
        if said is None or isinstance(said, Refusal):
            return said
        if said.type in self._ignore:
            return None
        identity = _identity(self._batch.source, said.id) if said.id is not None else None
        if identity in self._identities and identity is not None:
            return identity
        plans = self._types.get(said.type)
        if plans is None:
            return Refusal("unknown-type", f"No aggregate is over events of type {said.type!r}.")
        if said.at > self._latest:
            return Refusal("future", f"Its time, {said.at.isoformat()}, is more than a day ahead of the clock.")
        if (changed := self._changed_shape(said)) is not None:
            return changed
        try:
            given = [(plan, each) for plan in plans if (each := plan.contribution(said.payload)) is not None]
        except Misfit as error:
            return Refusal("misfit", f"{error}.")
        if identity is not None:
            self._identities.add(identity)
        return said, identity, [(plan, each) for plan, each in given if plan.id in self._ready]

    def _changed_shape(self, event: Event) -> Refusal | None:
        if event.relation is None or event.columns is None:
            return None
        known = self._shapes.get(event.relation)
        if known is None or (known != event.columns and self._batch.accept_shapes):
            self._shapes[event.relation] = self._found.shapes[event.relation] = event.columns
            return None
        if known == event.columns:
            return None
        added, gone = sorted(set(event.columns) - set(known)), sorted(set(known) - set(event.columns))
        said = [f"new: {', '.join(added)}"] if added else []
        said += [f"gone: {', '.join(gone)}"] if gone else []
        return Refusal("schema-changed", f"The columns of {event.relation} have changed ({'; '.join(said)}).")

    def _put_aside(self, partition: _Partition, read: Read, why: Refusal) -> None:
        partition.counts.quarantined += not read.again
        watermark = read.watermark if read.again else partition.lateness.watermark
        row = (partition.id, read.record.offset, why.reason, why.why, read.record.body, watermark)
        self._found.quarantine.append(row)

    def _take(
        self,
        partition: _Partition,
        read: Read,
        event: Event,
        identity: bytes | None,
        given: Iterable[tuple[Plan, Contribution]],
    ) -> None:
        lateness = Lateness(read.watermark) if read.again else partition.lateness
        behind = lateness.behind(event.at)
        if read.again:  # it counts as if it had been understood when it came
            partition.lateness.behind(event.at)
        seen = Seen(partition.id, read.record.offset, event.type, event.at, behind, event.payload)
        partition.counts.events += 1
        partition.counts.late += self._found.fold.add(seen, given)
        row = (partition.id, read.record.offset, event.type, event.at, behind, identity, event.text)
        self._found.events.append(row)


async def _store(
    conn: Connection, schema: str, batch: Batch, partitions: Mapping[str, _Partition], found: _Sorted
) -> Outcome:
    texts = queries.sql(schema)
    at = await queries.point(conn, schema) + 1
    if found.released:
        await conn.execute(texts["release"], *queries.columns_of(found.released, 2))
    if found.events:
        await queries.insert_events(conn, schema, at, found.events)
    await queries.add_fold(conn, schema, found.fold)
    if found.quarantine:
        form = json.dumps(batch.form.dump())
        await conn.execute(texts["insert_quarantine"], form, *queries.columns_of(found.quarantine, 6))
    if found.shapes:
        shapes = [(relation, json.dumps(columns)) for relation, columns in found.shapes.items()]
        await conn.execute(texts["add_shapes"], batch.source, *queries.columns_of(shapes, 2))
    await hit("ingest.stored")
    total, rows = Counts(), []
    for each in partitions.values():
        total.add(each.counts)
        counts = [getattr(each.counts, name) for name in _COUNTS]
        rows.append((each.id, each.position, each.lateness.watermark, *counts))
    moved = [(*row[:5], *row[6:]) for row in rows]  # without the quarantined, which are counted in their own table
    await conn.execute(texts["move_on"], *queries.columns_of(sorted(moved, key=lambda row: row[0]), 7))
    done = [(row[0], *row[3:]) for row in rows]
    await conn.execute(texts["insert_batch"], at, batch.id, *queries.columns_of(done, 6))
    await conn.execute(texts["next_point"], at)
    await hit("ingest.before_commit")
    return Outcome(at, total)


def _identity(source: str, own: str) -> bytes:
    return blake2b(f"{len(source)}:{source}{own}".encode(), digest_size=16).digest()
