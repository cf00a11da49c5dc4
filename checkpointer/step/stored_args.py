"""Arguments of statements in storage: what msgpack has no form for, or gives back as something else. Pure.

An argument that a statement was sent with must be the same when the statement is sent again by another process: a tuple
(a composite) is no list (an array), and what a read returned (a range, a vector, a shape) may be the argument of the
next one. All else is stored as it is, so logs without any of these can be read by 0.1.0 too, and the other way round.
"""

from __future__ import annotations

import copy
import datetime as dt
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.pgproto import pgproto
from asyncpg.pgproto import types as geometry
from pgvector import Bit, HalfVector, SparseVector, Vector

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["copied", "restored", "storable"]

_TAG = "superstep:argument"
_INT64 = 2**63
_UNCHANGING = frozenset(
    {int, str, bool, float, bytes, type(None), Decimal, uuid.UUID, dt.date, dt.datetime, dt.timedelta}
)


def copied(value: Any) -> Any:
    """A copy of an argument: what is done to a list or an array after it was passed does not change what was asked."""
    cls = type(value)
    if cls in _UNCHANGING:
        return value
    if cls in (list, tuple):
        return cls(map(copied, value))
    if cls is dict:
        return {key: copied(each) for key, each in value.items()}
    return (
        value if cls in _KINDS else copy.deepcopy(value)
    )  # those of the driver do not change, and most cannot be copied


def storable(value: Any) -> Any:
    """A form of an argument that survives msgpack; what is unknown here is left as it is."""
    cls = type(value)
    if cls is list:
        return [storable(each) for each in value]
    if cls is dict:
        plain = {key: storable(each) for key, each in value.items()}
        return {_TAG: ["dict", list(map(list, plain.items()))]} if _TAG in plain else plain
    if cls is int and not -_INT64 <= value < _INT64:
        return {_TAG: ["int", hex(value)]}
    if cls in (bytearray, memoryview):
        return bytes(value)
    if cls.__module__ == "numpy" and cls.__name__ != "ndarray" and hasattr(value, "item"):
        return value.item()
    known = _KINDS.get(cls)
    return value if known is None else {_TAG: [cls.__name__, storable(known[0](value))]}


def restored(stored: Any) -> Any:
    """The inverse of `storable`."""
    if isinstance(stored, list):
        return [restored(each) for each in stored]
    if not isinstance(stored, dict):
        return stored
    if _TAG not in stored:
        return {key: restored(each) for key, each in stored.items()}
    name, content = stored[_TAG]
    return _MAKE[name](restored(content))


def _path(content: list[Any]) -> geometry.Path:
    closed, *points = content
    return geometry.Path(*points, is_closed=closed)


def _range(content: list[Any]) -> asyncpg.Range[Any]:
    lower, upper, lower_inc, upper_inc, empty = content
    return asyncpg.Range(lower, upper, lower_inc=lower_inc, upper_inc=upper_inc, empty=empty)


# How to take each apart into what msgpack has forms for, and to make it again.
_KINDS: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    tuple: (list, tuple),
    pgproto.UUID: (lambda v: v.bytes, lambda c: uuid.UUID(bytes=c)),
    asyncpg.Range: (lambda v: [v.lower, v.upper, v.lower_inc, v.upper_inc, v.isempty], _range),
    geometry.BitString: (lambda v: [v.bytes, len(v)], lambda c: geometry.BitString.frombytes(*c)),
    geometry.Point: (list, lambda c: geometry.Point(*c)),
    geometry.Box: (list, lambda c: geometry.Box(*c)),
    geometry.Line: (list, lambda c: geometry.Line(*c)),
    geometry.LineSegment: (list, lambda c: geometry.LineSegment(*c)),
    geometry.Circle: (list, lambda c: geometry.Circle(*c)),
    geometry.Path: (lambda v: [v.is_closed, *v.points], _path),
    geometry.Polygon: (lambda v: list(v.points), lambda c: geometry.Polygon(*c)),
    Vector: (lambda v: v.to_binary(), Vector.from_binary),
    HalfVector: (lambda v: v.to_binary(), HalfVector.from_binary),
    SparseVector: (lambda v: v.to_binary(), SparseVector.from_binary),
    Bit: (lambda v: v.to_binary(), Bit.from_binary),
}
_MAKE: dict[str, Callable[[Any], Any]] = {
    "dict": dict,
    "int": lambda text: int(text, 16),
    **{cls.__name__: make for cls, (_, make) in _KINDS.items()},
}
