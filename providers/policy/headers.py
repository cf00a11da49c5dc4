"""What a response's headers say about when to come back."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["retry_after"]

DAY = 86_400.0  # seconds


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Seconds that a server asked to be left alone (RFC 9110, 10.2.3), `None` if it did not, or not sensibly.

    Reads `retry-after-ms` (OpenAI's, more precise), then `retry-after` as seconds or as an HTTP date. A date is
    compared with the response's own `date`, so that neither our clock nor its difference from the server's matters;
    without one it is ignored. So are negative delays and those above a day.
    """
    if not headers:
        return None
    fields = {name.lower(): value for name, value in headers.items()}
    delays = (
        _number(fields.get("retry-after-ms"), 1000.0),
        _number(fields.get("retry-after"), 1.0),
        _between(fields.get("date"), fields.get("retry-after")),
    )
    return next((delay for delay in delays if delay is not None and 0.0 <= delay <= DAY), None)


def _number(text: str | None, divisor: float) -> float | None:
    try:
        return None if text is None else float(text) / divisor
    except ValueError:
        return None


def _between(start: str | None, end: str | None) -> float | None:
    first, last = _date(start), _date(end)
    return None if first is None or last is None else (last - first).total_seconds()


def _date(text: str | None) -> datetime | None:
    try:
        at = None if text is None else parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return at if at is None or at.tzinfo is not None else at.replace(tzinfo=UTC)
