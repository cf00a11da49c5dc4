"""Reads of derived state in a super-step: `Step` has them. What they need is imported when a node reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

    import asyncpg

    from superstep.checkpointer.derived.signals import IngestionPoint, Key, Signal

__all__ = ["DerivedReads"]


class DerivedReads:
    """Signals of aggregates. Each is a read of the step like any other."""

    if TYPE_CHECKING:  # what `Step` has

        @property
        def schema(self) -> str: ...  # noqa: D102

        async def fetchrow(self, sql: str, *args: Any, validate: bool = True) -> asyncpg.Record | None: ...  # noqa: D102

    async def signal(self, name: str, key: Key, *, at: datetime | None = None, validate: bool = True) -> Signal:
        """What an aggregate says of one key, in the step's snapshot: all signals of a step reflect the same events.

        The fact is the values of this key in this window. Events of other keys, and those that leave the values as they
        are, do not change it. The ingestion point and the watermark are no part of it.

        Args:
            name: of the aggregate.
            key: its key; a list for a key of several parts.
            at: the window is the one that has this moment; the one that has the watermark by default. Take a moment
                once, outside of the node (from its input), or when it runs again it asks about another window.
            validate: see `fetch`.

        Raises:
            AggregateNotFound: there is none of that name.
            AggregateOutdated: it has to be rebuilt first.
            ConfigError: the key is none, or the moment has no time zone, or the aggregate has no window.
        """
        from superstep.checkpointer.derived import signals

        if validate:
            sql, *args = signals.signal_statement(self.schema, name, key, at)
            row = await self.fetchrow(sql, *args)
            # Behind the fact: if the snapshot changes in between, the fact is validated in the one of the point.
            seen = await self.fetchrow(signals.ingestion_statement(self.schema), validate=False)
        else:
            sql, *args = signals.shown_statement(self.schema, name, key, at)
            row = seen = await self.fetchrow(sql, *args, validate=False)
        return signals.signal_of(name, key, at, row, seen)

    async def level(
        self, name: str, key: Key, thresholds: Sequence[int | Decimal], *, of: str, at: datetime | None = None
    ) -> int:
        """How many of the thresholds a signal has reached, in the step's snapshot: the grain of most decisions.

        The fact is that number and nothing finer. Events that move the value, but past no threshold, do not change it:
        with 4 and 8, a count may go from 4 to 7 and the task does not run again.

        Args:
            name: of the aggregate.
            key: as in `signal`.
            thresholds: one is reached if the value is as great or greater. Their order does not matter.
            of: which of its functions: `count`, `sum` or `distinct`.
            at: as in `signal`.

        Raises:
            AggregateNotFound: there is none of that name.
            AggregateOutdated: it has to be rebuilt first.
            ConfigError: as in `signal`, or the aggregate does not compute that.
        """
        from superstep.checkpointer.derived import signals

        sql, *args = signals.level_statement(self.schema, name, key, thresholds, of, at)
        return signals.level_of(name, key, of, at, await self.fetchrow(sql, *args))

    async def ingestion(self, *, validate: bool = False) -> IngestionPoint:
        """Up to where events are ingested in the step's snapshot.

        Args:
            validate: make it a fact: the task then runs again whenever any batch of events is committed before its
                super-step. Without, it is only shown.
        """
        from superstep.checkpointer.derived.signals import IngestionPoint, ingestion_statement

        row = await self.fetchrow(ingestion_statement(self.schema), validate=validate)
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        return IngestionPoint(row["point"], row["watermark"])
