"""What a source of events is. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from superstep.checkpointer.derived.records import Format, Record

__all__ = ["EventSource"]


class EventSource(Protocol):
    """Anything that gives records with positions: a file, a queue, a feed. Write one of your own for other sources.

    It may give a record again, after a crash or at any time: its identity is (name, partition, offset), and it counts
    once. It must not leave one out that `after` says was not ingested.

    When it ends, the partitions that it gave records of hold no watermark back any more; one that has an attribute
    `partitions` names them all, also those that had nothing new.

    Attributes:
        name: of the source, the same each time.
        form: how its records are to be read.
    """

    name: str
    form: Format

    def records(self, after: Mapping[str, int]) -> AsyncIterator[Record | None]:
        """Records from where ingestion stands, of each partition in the order of their offsets.

        Args:
            after: the greatest offset that was ingested, by partition; none for a partition that is new.

        Yields:
            Records; `None` where the source has nothing more for now, so that what has been given so far is ingested
            without waiting for a full batch. It ends when the source does.

        Raises:
            EventSourceFailed: it cannot be read.
        """

    async def committed(self, positions: Mapping[str, int]) -> None:
        """Everything up to these offsets, by partition, is ingested durably: the source may forget it.

        Called after each batch. A crash may come before it: then the records come again, and count once.
        """
