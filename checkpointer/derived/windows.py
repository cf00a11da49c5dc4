"""Panes and windows. Pure.

Time is cut into panes that begin at multiples of their length, counted from a Monday, midnight UTC. A window is a whole
number of panes: one for a tumbling window, several for a sliding one. So an event belongs to one pane, and what a
window comes to is the sum of its panes, exactly.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

__all__ = ["ORIGIN", "length_of", "microseconds", "pane_of", "window_of", "written"]

ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)
"""A Monday. Also the one pane of aggregates without a window."""

_LENGTH = re.compile(r"(\d+)\s*(ms|s|m|h|d|w)", re.ASCII)
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def length_of(text: str) -> timedelta:
    """A length of time: a whole number and one of ms, s, m, h, d, w. It may be nothing.

    Raises:
        ValueError: it is none, or longer than a thousand years.
    """
    found = _LENGTH.fullmatch(text.strip())
    milliseconds = int(found[1]) * _MILLISECONDS[found[2]] if found else -1
    if not 0 <= milliseconds <= 1000 * 365 * 86_400_000:
        raise ValueError('must be a length of time, such as "30m" (units: ms, s, m, h, d, w)')
    return timedelta(milliseconds=milliseconds)


def written(length: timedelta) -> str:
    """A length of time in its largest whole unit, as `length_of` reads it."""
    milliseconds = length // timedelta(milliseconds=1)
    units = sorted(_MILLISECONDS.items(), key=lambda each: -each[1])
    unit, size = next(((unit, size) for unit, size in units if milliseconds % size == 0), ("ms", 1))
    return f"{milliseconds // size}{unit}" if milliseconds else "0s"


def microseconds(length: timedelta | None) -> int | None:
    """A length of time in microseconds."""
    return None if length is None else length // timedelta(microseconds=1)


def pane_of(at: datetime, pane: timedelta | None) -> datetime:
    """The beginning of the pane that a moment is in; `ORIGIN` where all time is one pane."""
    return ORIGIN if pane is None else ORIGIN + (at - ORIGIN) // pane * pane


def window_of(at: datetime, window: timedelta, pane: timedelta) -> tuple[datetime, datetime]:
    """The window whose last pane has the moment in it: its beginning, and its end, which is not in it."""
    until = pane_of(at, pane) + pane
    return until - window, until
