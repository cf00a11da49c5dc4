"""When schedules fire: around the days on which clocks are put forward and back, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from superstep.checkpointer.fleet.schedules import MOST, missed
from superstep.checkpointer.fleet.ticks import plan
from superstep.runtime.faults import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")


def ticks(expression: str, begin: str, count: int, zone: str = "Europe/Berlin") -> list[str]:
    """So many times after a moment on the wall, as UTC."""
    moment = datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = []
    for _ in range(count):
        moment = plan(expression, zone).after(moment)
        found.append(f"{moment:%m-%d %H:%M}")
    return found


def test_nine_is_nine_in_summer_and_in_winter() -> None:
    assert ticks("0 9 * * MON", "2026-03-20T00:00", 3) == ["03-23 08:00", "03-30 07:00", "04-06 07:00"]
    assert ticks("0 9 * * *", "2026-10-24T00:00", 3) == ["10-24 07:00", "10-25 08:00", "10-26 08:00"]


def test_what_is_planned_for_the_hour_that_is_missing_comes_later() -> None:
    assert ticks("30 2 * * *", "2026-03-28T00:00", 3) == ["03-28 01:30", "03-29 01:30", "03-30 00:30"]


def test_what_is_planned_for_the_hour_that_comes_twice_comes_once() -> None:
    assert ticks("30 2 * * *", "2026-10-24T00:00", 3) == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]


@pytest.mark.parametrize("day", ["2026-03-28T22:00", "2026-10-24T22:00"])
def test_an_hourly_schedule_counts_the_hours_that_go_by(day: str) -> None:
    moment = datetime.fromisoformat(day).replace(tzinfo=BERLIN).astimezone(UTC)
    for _ in range(30):
        after = plan("15 * * * *", "Europe/Berlin").after(moment)
        assert after.minute == 15
        assert after - moment <= timedelta(hours=1)
        moment = after


@pytest.mark.parametrize(
    ("expression", "zone", "said"),
    [
        ("0 0 30 2 *", "UTC", "never fires"),
        ("0 0 31 4,6 *", "Europe/Berlin", "never fires"),
        ("0 9 * *", "UTC", "five fields"),
        ("0 9 * * * *", "UTC", "five fields"),
        ("61 9 * * *", "UTC", "no schedule"),
        ("@daily", "UTC", "five fields"),
        ("0 9 * * *", "Mars/Olympus", "no time zone"),
        ("0 9 * * *", "../etc/passwd", "no time zone"),
    ],
)
def test_what_is_no_schedule_is_refused(expression: str, zone: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(expression, zone)


def test_a_leap_day_is_waited_for() -> None:
    assert plan("0 0 29 2 *", "UTC").after(datetime(2025, 1, 1, tzinfo=UTC)) == datetime(2028, 2, 29, tzinfo=UTC)


def test_what_was_missed_is_made_up_for_as_the_rule_says() -> None:
    after = plan("*/5 * * * *", "UTC").after
    first, now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC), datetime(2026, 1, 1, 12, 17, tzinfo=UTC)
    assert [each.minute for each in missed(after, first, now, "all")] == [0, 5, 10, 15]
    assert [each.minute for each in missed(after, first, now, "one")] == [15]
    assert missed(after, first, now, "none") == []
    assert missed(after, first, first + timedelta(seconds=2), "none") == [first]


def test_a_clock_that_jumps_by_years_floods_nothing() -> None:
    after = plan("* * * * *", "UTC").after
    first, now = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    found = missed(after, first, now, "all")
    assert (len(found), found[-1]) == (MOST, now)
