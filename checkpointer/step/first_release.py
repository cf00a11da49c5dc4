"""Digests as 0.1.0 made them, so that questions it has asked, and results it has saved, can still be compared. Pure.

They were 16 bytes over the `repr` of rows, in order where the statement had the words ORDER BY. What that misses (see
`value_bytes` and `order`) is missed for those reads as it was before; a run that goes on stores today's digests.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["digest_of_first_release", "is_of_first_release"]

_SIZE = 16
_ORDER_BY = re.compile(r"\border\s+by\b", re.IGNORECASE)


def is_of_first_release(digest: bytes) -> bool:
    """Whether a stored digest is one of 0.1.0: those of today have another length."""
    return len(digest) == _SIZE


def digest_of_first_release(sql: str, rows: Iterable[Any]) -> bytes:
    """The digest that 0.1.0 would have stored."""
    hashes = [blake2b(repr(tuple(row)).encode(), digest_size=_SIZE).digest() for row in rows]
    if _ORDER_BY.search(sql) is None:
        hashes.sort()
    return blake2b(b"".join(hashes), digest_size=_SIZE).digest()
