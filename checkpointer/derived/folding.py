"""What events come to, for each aggregate, by key and pane. Pure.

Everything here is a sum, a count or a latest value, so it does not matter in what order and in what portions events are
folded. Whether an event is late is the exception, and does not depend on portions either: it is decided by the events
before it in its own partition, see `Lateness`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.checkpointer.derived.paths import (
    LONGEST,
    MISSING,
    Misfit,
    at_path,
    canonical,
    key_of,
    number_of,
    parts_of,
)
from superstep.checkpointer.derived.windows import pane_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from superstep.checkpointer.derived.aggregates import Aggregate

__all__ = ["Contribution", "Fold", "Lateness", "Plan", "Seen"]

_NOTHING = timedelta(0)
_ZERO = Decimal(0)
_EXACT = Context(prec=20_000)


class Seen(NamedTuple):
    """An event as aggregates see it: where it is, when it was, how far behind its partition's watermark it came."""

    partition_id: int
    position: int
    type: str
    at: datetime
    behind: timedelta
    payload: Any


class Lateness:
    """The watermark of one partition, event by event: the greatest event time so far."""

    def __init__(self, watermark: datetime | None) -> None:
        self.watermark = watermark

    def behind(self, at: datetime) -> timedelta:
        """How far behind the watermark an event comes that is next; the watermark moves on to it if it is ahead."""
        if self.watermark is None or at >= self.watermark:
            self.watermark = at
            return _NOTHING
        return self.watermark - at


class Contribution(NamedTuple):
    """What one event gives to one aggregate: its key, its number if it sums, its value as JSON if that is kept."""

    key: str
    number: Decimal
    value: str | None


class Plan:
    """An aggregate made ready to be applied to events.

    Attributes:
        id: of its row.
        aggregate: what is declared.
        has_numbers: whether counts and sums are kept; and so on.
        has_members: as said.
        has_last: as said.
    """

    def __init__(self, id_: int, aggregate: Aggregate) -> None:
        self.id = id_
        self.aggregate = aggregate
        self._key = [parts_of(path) for path in aggregate.key]
        self._value = parts_of(aggregate.value) if aggregate.value else ()
        self._sums = aggregate.sums
        self.has_numbers = aggregate.has_numbers
        self.has_members = aggregate.has_members
        self.has_last = "last" in aggregate.compute
        self._keeps = self.has_members or self.has_last
        self._where = [(parts_of(path), frozenset(values)) for path, values in aggregate.where]

    def counts(self, behind: timedelta) -> bool:
        """Whether an event that far behind is counted, or late."""
        lateness = self.aggregate.lateness
        return lateness is None or behind <= lateness

    def contribution(self, payload: Any) -> Contribution | None:
        """What an event of its types with this payload gives; nothing if its conditions do not hold.

        Raises:
            Misfit: it lacks something. The message says which path, and why, without the value.
        """
        for parts, values in self._where:
            there = at_path(payload, parts)
            if there is MISSING or canonical(there) not in values:
                return None
        path = ", ".join(self.aggregate.key)
        try:
            key = key_of([at_path(payload, parts) for parts in self._key])
            path = self.aggregate.value or ""
            value = at_path(payload, self._value) if path else MISSING
            number = number_of(value) if self._sums else _ZERO
            return Contribution(key, number, self._kept(value) if self._keeps else None)
        except Misfit as error:
            raise Misfit(f'"{path}" {error}, which aggregate {self.aggregate.name} needs') from None

    def _kept(self, value: Any) -> str:
        if value is MISSING:
            raise Misfit("is missing")
        text = canonical(value)
        if self.has_members and len(text) * 4 > LONGEST and len(text.encode()) > LONGEST:
            raise Misfit(f"is longer than {LONGEST} bytes")
        return text


@dataclass(slots=True)
class Fold:
    """Sums over events, to be added to what the tables hold.

    Attributes:
        numbers: count and sum by (aggregate, key, pane).
        members: count by (aggregate, key, pane, value).
        lasts: (time, partition, offset, value) of the latest event by (aggregate, key, pane).
        late: how many events were late, by aggregate.
    """

    numbers: dict[tuple[int, str, datetime], list[Any]] = field(default_factory=dict)
    members: dict[tuple[int, str, datetime, str], int] = field(default_factory=dict)
    lasts: dict[tuple[int, str, datetime], tuple[datetime, int, int, str]] = field(default_factory=dict)
    late: dict[int, int] = field(default_factory=dict)

    def add(self, seen: Seen, given: Iterable[tuple[Plan, Contribution]]) -> bool:
        """Add an event's contributions; whether it was late for one of the aggregates."""
        was_late = False
        for plan, contribution in given:
            if plan.counts(seen.behind):
                self._add(plan, seen, contribution)
            else:
                was_late = True
                self.late[plan.id] = self.late.get(plan.id, 0) + 1
        return was_late

    def _add(self, plan: Plan, seen: Seen, given: Contribution) -> None:
        place = (plan.id, given.key, pane_of(seen.at, plan.aggregate.step))
        if plan.has_numbers:
            found = self.numbers.get(place)
            if found is None:
                found = self.numbers[place] = [0, _ZERO]
            found[0] += 1
            found[1] = _EXACT.add(found[1], given.number)
        if given.value is None:
            return
        if plan.has_members:
            member = (*place, given.value)
            self.members[member] = self.members.get(member, 0) + 1
        if plan.has_last:
            latest = (seen.at, seen.partition_id, seen.position, given.value)
            before = self.lasts.get(place)
            if before is None or latest[:3] > before[:3]:
                self.lasts[place] = latest
