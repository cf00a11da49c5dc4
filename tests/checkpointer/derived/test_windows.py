"""Panes and windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.checkpointer.derived.windows import ORIGIN, length_of, pane_of, window_of, written

MOMENTS = st.integers(-(10**15), 10**15).map(lambda us: ORIGIN + timedelta(microseconds=us))
PANES = st.integers(1, 10**9).map(lambda ms: timedelta(milliseconds=ms))


@given(MOMENTS, PANES)
def test_a_moment_is_in_its_pane(at: datetime, pane: timedelta) -> None:
    begin = pane_of(at, pane)
    assert begin <= at < begin + pane
    assert (begin - ORIGIN) % pane == timedelta(0)


@given(st.lists(MOMENTS, max_size=30), MOMENTS, PANES, st.integers(1, 20))
def test_a_window_is_the_sum_of_its_panes(events: list[datetime], at: datetime, pane: timedelta, panes: int) -> None:
    since, until = window_of(at, pane * panes, pane)
    assert until - pane <= at < until
    assert until - since == pane * panes
    inside = [event for event in events if since <= event < until]
    assert inside == [event for event in events if since <= pane_of(event, pane) < until]


@given(st.timedeltas(timedelta(0), timedelta(days=100_000)))
def test_lengths_are_read_as_they_are_written(length: timedelta) -> None:
    length = timedelta(milliseconds=length // timedelta(milliseconds=1))
    assert length_of(written(length)) == length


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1.5h", "1 month", "999999999w", "٣h"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(ValueError, match="length of time"):
        length_of(text)


def test_weeks_begin_on_a_monday_and_all_time_is_one_pane() -> None:
    assert pane_of(datetime(2026, 11, 27, 12, tzinfo=UTC), timedelta(weeks=1)) == datetime(2026, 11, 23, tzinfo=UTC)
    assert pane_of(datetime(1999, 1, 1, tzinfo=UTC), None) == ORIGIN
