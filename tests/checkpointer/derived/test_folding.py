"""What events come to does not depend on their order nor on portions; lateness only on the order in a partition."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from superstep.checkpointer.derived.aggregates import Aggregate
from superstep.checkpointer.derived.folding import Fold, Lateness, Plan, Seen
from superstep.checkpointer.derived.windows import pane_of

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
MINUTES = st.integers(0, 300).map(lambda n: BEGAN + timedelta(minutes=n))
PLANS = [
    Plan(1, Aggregate.of("a", events="x", key="k", value="v", compute=["sum", "count"], window="1h", step="10m")),
    Plan(
        2, Aggregate.of("b", events="x", key="k", value="v", compute=["distinct", "last"], lateness="30m", window="1h")
    ),
    Plan(3, Aggregate.of("c", events="x", key="k", value="v", compute=["top", "last"])),
]
EVENTS = st.lists(st.tuples(MINUTES, st.sampled_from("AB"), st.decimals(-5, 5, places=1)), max_size=30)


def seen_of(events: list[tuple[datetime, str, Decimal]]) -> list[Seen]:
    lateness = Lateness(None)
    return [
        Seen(1, at, "x", when, lateness.behind(when), {"k": key, "v": value})
        for at, (when, key, value) in enumerate(events)
    ]


def fold(seen: list[Seen]) -> Fold:
    total = Fold()
    for each in seen:
        given = [(plan, plan.contribution(each.payload)) for plan in PLANS]
        total.add(each, [(plan, one) for plan, one in given if one is not None])
    return total


def added(one: Fold, other: Fold) -> Fold:
    """As the tables add up what batches bring."""
    total = Fold()
    for each in (one, other):
        for place, (count, sum_) in each.numbers.items():
            found = total.numbers.setdefault(place, [0, Decimal(0)])
            found[0] += count
            found[1] += sum_
        for member, count in each.members.items():
            total.members[member] = total.members.get(member, 0) + count
        for place, last in each.lasts.items():
            total.lasts[place] = max(total.lasts.get(place, last), last, key=lambda row: row[:3])
        for plan, late in each.late.items():
            total.late[plan] = total.late.get(plan, 0) + late
    return total


@given(EVENTS, st.randoms(use_true_random=False))
def test_order_does_not_matter(events: list[Any], dice: Any) -> None:
    seen = seen_of(events)
    shuffled = list(seen)
    dice.shuffle(shuffled)
    assert fold(shuffled) == fold(seen)


@given(EVENTS, st.integers(0, 30))
def test_portions_do_not_matter(events: list[Any], cut: int) -> None:
    seen = seen_of(events)
    assert added(fold(seen[:cut]), fold(seen[cut:])) == fold(seen)


@given(st.lists(MINUTES), st.integers(0, 40))
def test_the_watermark_is_the_greatest_time_so_far(times: list[datetime], cut: int) -> None:
    one = Lateness(None)
    behind = [one.behind(each) for each in times]
    assert behind == [max(times[: nth + 1]) - each for nth, each in enumerate(times)]
    first = Lateness(None)
    before = [first.behind(each) for each in times[:cut]]
    second = Lateness(first.watermark)  # the next batch
    assert before + [second.behind(each) for each in times[cut:]] == behind


@given(EVENTS)
def test_it_is_what_counting_gives(events: list[Any]) -> None:
    seen = seen_of(events)
    found = fold(seen)
    step = timedelta(minutes=10)
    counts = Counter((1, key, pane_of(at, step)) for at, key, _ in events)
    assert {place: count for place, (count, _) in found.numbers.items()} == counts
    in_time = [
        (at, key, value) for (at, key, value), s in zip(events, seen, strict=True) if s.behind <= timedelta(minutes=30)
    ]
    assert found.late.get(2, 0) == len(events) - len(in_time)
    distinct = {(key, pane_of(at, timedelta(hours=1)), value) for at, key, value in in_time}
    assert len([member for member in found.members if member[0] == 2]) == len(distinct)
