"""Values as bytes: two values have the same bytes exactly when they are the same. Pure.

For everything that asyncpg and pgvector read and take as arguments, numpy arrays, and what a codec of the user's own
makes: enums, named tuples, dataclasses, pydantic models, shapely's shapes. `repr` would not do: that of an array is
abridged, that of an object without one is its address. Pickle would not do either: its bytes depend on which objects
are shared.

Every encoding is a tag, a length and a content, so no two of them can be read as one another. NaN equals NaN, and -0.0
is not 0.0: what a model is shown of them differs.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import math
import struct
import sys
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.pgproto import types as geometry
from pgvector import Bit, HalfVector, SparseVector, Vector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["NoExactForm", "value_bytes"]


class NoExactForm(TypeError):
    """There is no telling whether two values of this type are the same."""

    def __init__(self, value: Any) -> None:
        self.type_name = f"{type(value).__module__}.{type(value).__qualname__}"
        super().__init__(
            f"values of type {self.type_name} cannot be compared exactly. Read the column as text (column::text), or "
            f"let the codec return a plain value, a named tuple, a dataclass or a numpy array"
        )


def value_bytes(value: Any) -> bytes:
    """See the module.

    Raises:
        NoExactForm: the value, or one inside it, is of a type that no rule here covers.
    """
    encode = _EXACT.get(type(value))
    if encode is not None:
        return encode(value)
    for known, encode in _KINDS:
        if isinstance(value, known):
            return encode(value)
    return _of_user(value)


def _tagged(tag: bytes, content: bytes) -> bytes:
    return b"%b:%d:%b" % (tag, len(content), content)


def _all(tag: bytes, values: Iterable[Any]) -> bytes:
    return _tagged(tag, b"".join(map(value_bytes, values)))


def _text(tag: bytes, text: str) -> bytes:
    content = text.encode() if text.isascii() else text.encode(errors="surrogatepass")
    return b"%b:%d:%b" % (tag, len(content), content)


def _float(value: float) -> bytes:
    return b"f:" + struct.pack(">d", math.nan if math.isnan(value) else value)


def _range(value: asyncpg.Range[Any]) -> bytes:
    return _all(b"range", (value.lower, value.upper, value.lower_inc, value.upper_inc, value.isempty))


def _time(value: dt.datetime | dt.time) -> bytes:
    return _text(
        type(value).__name__.encode(), value.isoformat()
    )  # the offset is in it; of a zone only the offset matters


def _record(value: asyncpg.Record) -> bytes:
    return _all(b"record", (*value.keys(), *value.values()))


def _ndarray(value: Any) -> bytes:
    if value.dtype.hasobject:
        return _all(b"objects", (list(value.shape), *value.ravel().tolist()))
    return _all(b"ndarray", (str(value.dtype.descr), list(value.shape), value.tobytes()))


def _of_user(value: Any) -> bytes:
    """A value that a codec of the user's own made."""
    cls = type(value)
    name = f"{cls.__module__}.{cls.__qualname__}"
    if cls.__module__ == "numpy" and cls.__name__ == "ndarray":
        return _ndarray(value)
    if cls.__module__ == "numpy" and hasattr(value, "dtype") and hasattr(value, "tobytes"):
        return _all(b"scalar", (str(value.dtype), value.tobytes()))
    if isinstance(value, enum.Enum):
        return _all(b"enum", (name, value.name))
    if isinstance(value, tuple) and hasattr(cls, "_fields"):
        return _all(b"namedtuple", (name, *cls._fields, *tuple.__iter__(value)))
    if dataclasses.is_dataclass(value):
        return _all(b"dataclass", (name, *((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))))
    if hasattr(cls, "__pydantic_fields__"):
        fields = dict(value.__dict__), value.__pydantic_extra__, value.__pydantic_private__
        return _all(b"pydantic", (name, *fields))
    if cls.__module__.partition(".")[0] == "shapely" and hasattr(cls, "wkb"):
        return _all(b"shape", (name, sys.modules["shapely"].to_wkb(value, include_srid=True)))
    raise NoExactForm(value)


# Exact types first: a look-up. `float` by its bits, `Decimal` by its digits (1 is not 1.0), a mapping in its own order.
_EXACT: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"none",
    bool: lambda value: b"true" if value else b"false",
    int: lambda value: _tagged(b"int", b"%x" % value),
    float: _float,
    str: lambda value: _text(b"str", value),
    bytes: lambda value: _tagged(b"bytes", value),
    bytearray: lambda value: _tagged(b"bytearray", bytes(value)),
    memoryview: lambda value: _tagged(b"memoryview", value.tobytes()),
    Decimal: lambda value: _text(b"decimal", str(value)),
    dt.datetime: _time,
    dt.time: _time,
    dt.date: lambda value: _text(b"date", value.isoformat()),
    dt.timedelta: lambda value: _text(b"timedelta", f"{value.days} {value.seconds} {value.microseconds}"),
    list: lambda value: _all(b"list", value),
    tuple: lambda value: _all(b"tuple", value),
    dict: lambda value: _all(b"dict", (each for item in value.items() for each in item)),
    set: lambda value: _tagged(b"set", b"".join(sorted(map(value_bytes, value)))),
    frozenset: lambda value: _tagged(b"frozenset", b"".join(sorted(map(value_bytes, value)))),
    asyncpg.Range: _range,
    asyncpg.Record: _record,
    geometry.BitString: lambda value: _all(b"bits", (len(value), value.bytes)),
    geometry.Point: lambda value: _all(b"point", tuple(value)),
    geometry.Box: lambda value: _all(b"box", tuple(value)),
    geometry.Line: lambda value: _all(b"line", tuple(value)),
    geometry.LineSegment: lambda value: _all(b"lseg", tuple(value)),
    geometry.Circle: lambda value: _all(b"circle", tuple(value)),
    geometry.Path: lambda value: _all(b"path", (value.is_closed, *value.points)),
    geometry.Polygon: lambda value: _all(b"polygon", value.points),
    Vector: lambda value: _tagged(b"vector", value.to_binary()),
    HalfVector: lambda value: _tagged(b"halfvec", value.to_binary()),
    SparseVector: lambda value: _tagged(b"sparsevec", value.to_binary()),
    Bit: lambda value: _tagged(b"bit", value.to_binary()),
    **{
        cls: lambda value: _text(type(value).__name__.encode(), str(value))
        for each in ("Address", "Network", "Interface")
        for cls in (getattr(ipaddress, f"IPv4{each}"), getattr(ipaddress, f"IPv6{each}"))
    },
}

# Subclasses that the driver itself uses, or that a codec may, and that add nothing to what they extend.
_KINDS: tuple[tuple[type, Callable[[Any], bytes]], ...] = (
    (uuid.UUID, lambda value: _tagged(b"uuid", value.bytes)),
    (asyncpg.Record, _record),
)
