"""Equal bytes exactly for equal values, of every type that a server and a codec can give."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import math
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import numpy as np
import pytest
from asyncpg.pgproto.types import BitString, Box, Circle, Line, LineSegment, Path, Point, Polygon
from hypothesis import given
from hypothesis import strategies as st
from pgvector import Bit, HalfVector, SparseVector, Vector
from pgvector.asyncpg import register_vector
from pydantic import BaseModel

from superstep.checkpointer.step.value_bytes import NoExactForm, value_bytes

if TYPE_CHECKING:
    from tests.support.bank import Bank


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    RED = 1


class Pair(NamedTuple):
    a: Any
    b: Any


class OtherPair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Money:
    amount: Decimal
    tags: list[str]


class Model(BaseModel):
    amount: Decimal


LONG = np.zeros(2000)
LONG_TOO = LONG.copy()
LONG_TOO[1000] = 1  # the repr of both is the same

# No two of these are the same value.
DIFFERENT: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**70, 0.0, -0.0, 1.0, math.inf, -math.inf, math.nan, "", "1", "1.0", "\ud800"),
    *(b"", b"1", bytearray(b"1"), Decimal(1), Decimal("1.0"), Decimal("NaN"), Decimal("Infinity")),
    *(dt.date(2026, 1, 1), dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.time(1), dt.time(2)),  # noqa: DTZ001
    *(dt.time(1, tzinfo=dt.UTC), dt.timedelta(1), dt.timedelta(seconds=1), dt.timedelta(microseconds=1)),
    *(uuid.UUID(int=1), uuid.UUID(int=2), [], [1], [[1]], [1, 1], ["11"], [1, 2], [2, 1], (), (1,), {}, {"a": 1}),
    *({"a": "1"}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {1}, frozenset({1}), ["a", "b"], ["ab"], ["a", None], [math.nan]),
    *(asyncpg.Range(1, 2), asyncpg.Range(1, 2, lower_inc=False), asyncpg.Range(1, 2, upper_inc=True), asyncpg.Range()),
    *(asyncpg.Range(empty=True), asyncpg.Range(1, None), asyncpg.Range(None, 1), asyncpg.Range("1", "2")),
    *(BitString("1"), BitString("10"), BitString("100"), BitString("101"), Point(1.0, 2.0), Point(2.0, 1.0)),
    *(Box((1.0, 1.0), (0.0, 0.0)), Box((1.0, 2.0), (0.0, 0.0)), Line(1.0, 2.0, 3.0), Line(3.0, 2.0, 1.0)),
    *(LineSegment((0.0, 0.0), (1.0, 1.0)), Circle((0.0, 0.0), 1.0), Circle((0.0, 0.0), 2.0)),
    *(Path((0.0, 0.0), (1.0, 1.0)), Path((0.0, 0.0), (1.0, 1.0), is_closed=True), Path((0.0, 0.0), (1.0, 2.0))),
    *(Polygon((0.0, 0.0), (1.0, 1.0)), Polygon((0.0, 0.0), (1.0, 2.0))),
    *(ipaddress.ip_address("10.0.0.1"), ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_network("10.0.0.0/8")),
    *(ipaddress.ip_address("::1"), ipaddress.ip_address("fe80::1%a"), ipaddress.ip_address("fe80::1%b")),
    *(Vector([1, 2]), Vector([2, 1]), HalfVector([1, 2]), SparseVector([1, 2]), SparseVector({0: 1.0}, 5)),
    *(SparseVector({0: 1.0}, 6), Bit("1"), Bit("10"), LONG, LONG_TOO, np.zeros(3, np.float32), np.zeros(3, np.int32)),
    *(
        np.zeros((1, 3), np.int32),
        np.array([1, None], object),
        np.array([1, "x"], object),
        np.float32(1),
        np.float64(1),
    ),
    *(np.datetime64(1, "s"), np.datetime64(1, "D"), np.zeros(1, [("a", "i4")]), np.zeros(1, [("b", "i4")])),
    *(Colour.RED, Colour.BLUE, Number.RED, Pair(1, 2), OtherPair(1, 2), Pair(2, 1), Pair(LONG, 1), Pair(LONG_TOO, 1)),
    *(Money(Decimal(1), ["a"]), Money(Decimal(1), ["b"]), Model(amount=Decimal(1)), Model(amount=Decimal("1.0"))),
]


def test_no_two_different_values_have_the_same_bytes() -> None:
    seen: dict[bytes, Any] = {}
    for value in DIFFERENT:
        data = value_bytes(value)
        assert data not in seen, (value, seen[data])
        seen[data] = value


def test_a_value_made_again_has_the_same_bytes() -> None:
    pairs = [
        (math.nan, -math.nan),
        (LONG, LONG.copy()),
        (np.arange(6).reshape(2, 3).T, np.array([[0, 3], [1, 4], [2, 5]])),  # not the memory but the values
        (Polygon((0.0, 0.0)), Polygon((0.0, 0.0))),
        (uuid.UUID(int=7), asyncpg.pgproto.pgproto.UUID(str(uuid.UUID(int=7)))),
        ({3, "a", None}, {None, "a", 3}),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "x"))),
        (Money(Decimal(1), ["a"]), Money(Decimal(1), ["a"])),
    ]
    for one, other in pairs:
        assert value_bytes(one) == value_bytes(other)


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3))
nested = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner), max_leaves=6)


@given(nested, nested)
def test_nested_values_are_told_apart_as_their_reprs_are(one: Any, other: Any) -> None:
    assert (value_bytes(one) == value_bytes(other)) == (repr(one) == repr(other))


@pytest.mark.parametrize("value", [object(), [object()], {"a": {1: object()}}, Pair(1, object()), np.ma.array([1])])
def test_what_cannot_be_compared_is_refused_by_name(value: Any) -> None:
    with pytest.raises(NoExactForm, match=r"builtins\.object|numpy\.ma"):
        value_bytes(value)


TEXTS = ["1", "2", "-0", "NaN", "1.50", "t", "abc", "{1,2}", "2026-01-01", "2026-01-01 10:00+02", "1 day", "10:00+02"]
TEXTS += ["(1,2)", "(2,1)", "((0,0),(1,1))", "((0,0),(1,2))", "[(0,0),(1,1)]", "<(0,0),1>", "{1,2,3}", "[1,2)", "(1,2]"]
TEXTS += ["{[1,2),[4,5)}", "[2026-01-01,2026-02-01)", "empty", "101", "1011", "10.0.0.0/8", "10.0.0.1", "fe80::1"]
TEXTS += [
    '{"((0,0),(1,1))"}',
    "08:00:2b:01:02:03",
    "08:00:2b:01:02:03:04:05",
    '{"a": 1}',
    '{"a": 2}',
    "$.a",
    "a & b",
    "a b",
    "\\x00ff",
]
TEXTS += ["00000000-0000-0000-0000-000000000001", "[1,2]", "[2,1]", "{1:1}/2", "{2:1}/2", "pg_class", "1/2", "<a/>"]


async def test_every_type_of_the_server_is_covered(bank: Bank) -> None:
    """Texts that a type takes, read as values: equal bytes exactly where the server says they are the same text."""
    types = await bank.do(
        "SELECT format_type(oid, NULL) AS name FROM pg_type WHERE typtype IN ('b', 'r', 'm', 'e', 'd')"
        " AND (typname !~ '^_' OR typname IN ('_int4', '_text', '_polygon', '_path', '_float8', '_vector'))"
        " AND typnamespace <> 'information_schema'::regnamespace"
    )
    covered = set()
    async with bank.saver.transaction() as tx:
        await register_vector(tx)
        for name in (row["name"] for row in types):
            seen: dict[str, bytes] = {}
            for text in TEXTS:
                await tx.execute("SAVEPOINT one")
                try:
                    said = await tx.fetchval(f"SELECT ($1::text::{name})::text", text)
                    value, again = await tx.fetchrow(f"SELECT $1::text::{name}, $2::text::{name}", text, said)
                except (asyncpg.PostgresError, ValueError, OverflowError):
                    await tx.execute("ROLLBACK TO SAVEPOINT one")
                    continue
                assert value_bytes(value) == value_bytes(again), (name, text)
                assert seen.setdefault(said, value_bytes(value)) == value_bytes(value), (name, text)
                covered.add(name)
            assert len(set(seen.values())) == len(seen), (name, seen)
    assert {
        "path",
        "polygon",
        "vector",
        "halfvec",
        "sparsevec",
        "int4range",
        "int4multirange",
        "bit",
        "inet",
    } <= covered
    assert {"jsonb", "numeric", "uuid", "polygon[]", "circle", "line", "macaddr8", "tsvector", "bytea"} <= covered
