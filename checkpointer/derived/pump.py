"""From a source into batches."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from superstep.checkpointer.derived.batch import Counts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from superstep.checkpointer.derived.ingestion import Ingestion
    from superstep.checkpointer.derived.records import Record
    from superstep.checkpointer.derived.sources import EventSource

__all__ = ["BATCH", "Pumped", "pump"]

BATCH = 2000  # records in a transaction
_LINGER = 0.2  # seconds that the first record of a batch waits for the others


@dataclass(slots=True)
class Pumped:
    """What has been ingested of a source so far.

    Attributes:
        counts: what became of the records.
        batches: how many transactions.
        point: the ingestion point after the latest.
        positions: the greatest offset ingested, by partition.
        seconds: since it began.
    """

    counts: Counts = field(default_factory=Counts)
    batches: int = 0
    point: int = 0
    positions: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


async def pump(
    ingestion: Ingestion,
    source: EventSource,
    *,
    batch: int = BATCH,
    ignore: Iterable[str] = (),
    progress: Callable[[Pumped], None] | None = None,
) -> Pumped:
    """Ingest a source from where ingestion stands to its end, in batches.

    While one batch is committed, the next one is read. Cancelling loses nothing: what was not committed comes again.

    Args:
        ingestion: where to.
        source: from where.
        batch: records in one transaction at most.
        ignore: types of events that are not to be kept.
        progress: called after each batch.

    Raises:
        EventSourceFailed: the source cannot be read any further. What came before is ingested.
    """
    work = _Work(ingestion, source, frozenset(ignore), progress)
    positions = await ingestion.positions(source.name)
    records = cast("AsyncGenerator[Record | None, None]", source.records(positions))
    under_way: asyncio.Task[None] | None = None
    try:
        async with aclosing(_batches(records, batch)) as batches:
            async for each in batches:
                if under_way is not None:
                    await under_way
                under_way = asyncio.create_task(work.commit(each)) if each else None
                await asyncio.sleep(0)  # let it send its first statement
        if under_way is not None:
            await under_way
    except BaseException as error:
        if under_way is not None and not under_way.done():
            if not isinstance(error, Exception):  # what the source gave before it failed is ingested all the same
                under_way.cancel()
            await asyncio.gather(under_way, return_exceptions=True)
        raise
    return await work.end()


class _Work:
    """Commits batches, and counts."""

    def __init__(
        self,
        ingestion: Ingestion,
        source: EventSource,
        ignore: frozenset[str],
        progress: Callable[[Pumped], None] | None,
    ) -> None:
        self._ingestion, self._source, self._ignore, self._progress = ingestion, source, ignore, progress
        self._began = time.monotonic()
        self._done = Pumped()

    async def commit(self, records: list[Record]) -> None:
        """Ingest a batch, then tell the source and whoever looks on."""
        done, source = self._done, self._source
        outcome = await self._ingestion.ingest(source.name, records, source.form, ignore=self._ignore)
        upto = {record.partition: record.offset for record in records}
        done.positions.update(upto)
        done.counts.add(outcome.counts)
        done.batches, done.point, done.seconds = done.batches + 1, outcome.point, time.monotonic() - self._began
        await source.committed(upto)
        if self._progress is not None:
            self._progress(done)

    async def end(self) -> Pumped:
        """The source has ended: so have its partitions."""
        read = self._done.positions.keys() | set(getattr(self._source, "partitions", ()))
        await self._ingestion.ended(self._source.name, read)
        self._done.seconds = time.monotonic() - self._began
        return self._done


async def _batches(records: AsyncGenerator[Record | None, None], most: int) -> AsyncGenerator[list[Record], None]:
    """Records in lists: full ones, and shorter or empty ones where the source has nothing more for now."""
    found: list[Record] = []
    since = 0.0
    async with aclosing(records):
        async for record in records:
            if record is not None:
                since = since if found else time.monotonic()
                found.append(record)
            if record is None or len(found) >= most or (found and time.monotonic() - since > _LINGER):
                yield found
                found = []
    if found:
        yield found
