"""Digests as 0.1.0 made them, for facts that it stored: threads that were killed, or that wait for a human, go on.

It took the `repr` of each row, and compared rows whatever their order unless the statement had the words ORDER BY.
Where that is exact, an equal digest still says that nothing has moved. Where it is not, there is none to compare with:
the read counts as moved, once, since what is stored from then on is of today's kind.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asyncpg import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LENGTH", "digest_of_0_1_0", "took_no_order"]

LENGTH = 16  # bytes; today's digests have others

_ORDER_BY = re.compile(r"\border\s+by\b", re.IGNORECASE)
_EXACT = frozenset({type(None), bool, int, float, str, bytes, Decimal, dt.date, dt.timedelta})


def digest_of_0_1_0(sql: str, rows: Sequence[Any]) -> bytes | None:
    """What 0.1.0 would have stored for these rows; `None` if a `repr` in it may be that of other values too."""
    if not all(_is_exact(value) for row in rows for value in row):
        return None
    hashes = [blake2b(repr(tuple(row)).encode(), digest_size=LENGTH).digest() for row in rows]
    if took_no_order(sql):
        hashes.sort()
    return blake2b(b"".join(hashes), digest_size=LENGTH).digest()


def took_no_order(sql: str) -> bool:
    """Whether 0.1.0 compared the rows of a statement whatever their order."""
    return _ORDER_BY.search(sql) is None


def _is_exact(value: Any) -> bool:
    cls = type(value)
    if cls in (list, tuple, Record):
        return all(map(_is_exact, value))
    if cls in (dt.datetime, dt.time):
        return value.tzinfo is None or value.tzinfo is dt.UTC
    return cls in _EXACT or isinstance(value, UUID)
