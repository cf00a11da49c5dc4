"""When a schedule fires. Pure.

A schedule is a cron expression of five fields in a time zone, read as croniter reads it. What the wall clock of that
zone shows decides: 09:00 is 09:00 in summer and in winter. Where the clock is put forward, what was planned for the
hour that is missing comes as much later as the clock jumps. Where it is put back, what was planned for the hour that
comes twice comes once, at the first; but a schedule of every hour (its field of hours begins with `*`) comes in both,
and not for an hour that is missing: what is meant is how much time goes by.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Plan", "plan"]

_FIELDS = 5
_AROUND = timedelta(hours=3)  # clocks are put by an hour, or two


class Plan:
    """A schedule's times. Made by `plan`."""

    def __init__(self, expression: str, zone: ZoneInfo, croniter: Any) -> None:
        self._expression, self._zone, self._croniter = expression, zone, croniter
        self._is_hourly = expression.split()[1].startswith("*")

    def after(self, moment: datetime) -> datetime:
        """The first time after a moment, in UTC.

        Raises:
            ConfigError: there is none, as for the 30th of February.
        """
        wall = moment.astimezone(self._zone).replace(tzinfo=None)
        begin = wall - _AROUND if self._is_put_around(moment) else wall
        best: datetime | None = None
        for tick in self._ticks(begin):
            if best is not None and tick > wall + _AROUND:
                break
            found = [at for at in self._moments(tick) if at > moment and (best is None or at < best)]
            best = min(found, default=best)
            if best is not None and begin == wall:
                break
        if best is None:
            raise self._never()
        return best

    def _is_put_around(self, moment: datetime) -> bool:
        offsets = {(moment + each).astimezone(self._zone).utcoffset() for each in (-_AROUND, timedelta(0), _AROUND)}
        return len(offsets) > 1

    def _ticks(self, begin: datetime) -> Iterator[datetime]:
        """Times on the wall, without end."""
        from croniter import CroniterBadDateError

        ticks = self._croniter(self._expression, begin)
        while True:
            try:
                yield ticks.get_next(datetime)
            except CroniterBadDateError:
                raise self._never() from None

    def _moments(self, wall: datetime) -> list[datetime]:
        """When the clock on the wall shows this, or would."""
        both = [wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        is_missing = both[0].astimezone(self._zone).replace(tzinfo=None) != wall
        if is_missing:
            return [] if self._is_hourly else both[:1]
        return both if self._is_hourly and both[0] != both[1] else both[:1]

    def _never(self) -> ConfigError:
        return ConfigError(f"The schedule {self._expression!r} never fires. Nothing was stored: correct the days.")


@lru_cache(maxsize=256)
def plan(expression: str, timezone: str) -> Plan:
    """The times of an expression.

    Args:
        expression: minute, hour, day of the month, month, day of the week.
        timezone: an IANA name, such as "Europe/Berlin".

    Raises:
        ConfigError: it is none, or there is no such zone, or its package is not installed.
    """
    try:
        from croniter import croniter
    except ModuleNotFoundError:
        raise ConfigError(
            "Schedules need a package that is not installed (croniter). Install `superstep-runtime[queue]`."
        ) from None
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"There is no time zone {timezone!r}. Write one as in Europe/Berlin, or UTC.") from None
    if len(expression.split()) != _FIELDS or not croniter.is_valid(expression):
        raise ConfigError(
            f"{expression!r} is no schedule. Write five fields: minute, hour, day of the month, month and day of the "
            f'week, such as "0 9 * * MON".'
        )
    found = Plan(expression, zone, croniter)
    found.after(datetime(2024, 1, 1, tzinfo=UTC))
    return found
