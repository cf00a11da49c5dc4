"""Filters mean the same in SQL and in Python, and what they mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from superstep.checkpointer.memory.filters import conditions_of, fits
from superstep.runtime.faults import MemoryInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUE: dict[str, Any] = {
    "n": 10,
    "f": 4.5,
    "s": "red",
    "yes": True,
    "tags": ["a", 1],
    "in": {"deep": {"n": 3}},
    "no": None,
}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, True),
        ({}, True),
        ({"s": "red"}, True),
        ({"s": "blue"}, False),
        ({"n": 10.0}, True),
        ({"n": {"$eq": 10}, "s": "red"}, True),
        ({"n": 10, "s": "blue"}, False),
        ({"n": {"$gt": 9}}, True),
        ({"n": {"$gt": 10}}, False),
        ({"n": {"$gte": 10, "$lt": 11}}, True),
        ({"n": {"$lte": 9.99}}, False),
        ({"f": {"$lt": 10}}, True),
        ({"s": {"$gt": "blue"}}, True),
        ({"s": {"$gt": 4}}, False),
        ({"n": {"$gt": "1"}}, False),
        ({"yes": {"$gt": 0}}, False),
        ({"yes": 1}, False),
        ({"yes": True}, True),
        ({"n": {"$ne": 10}}, False),
        ({"n": {"$ne": 11}}, True),
        ({"missing": {"$ne": 1}}, True),
        ({"missing": None}, False),
        ({"no": None}, True),
        ({"tags": ["a", 1]}, True),
        ({"tags": ["a"]}, False),
        ({"in": {"deep": {"n": {"$gte": 3}}}}, True),
        ({"in": {"deep": {"n": 4}}}, False),
        ({"in": {}}, True),
        ({"s": {}}, False),
        ({"in": {"$eq": {"deep": {"n": 3}}}}, True),
    ],
)
def test_what_a_filter_finds(wanted: dict[str, Any] | None, found: bool) -> None:
    assert fits(VALUE, wanted) is found


@pytest.mark.parametrize(
    "wanted",
    [
        {"n": {"$in": [1]}},
        {"n": {"$gt": True}},
        {"n": {"$gt": None}},
        {"n": {"$gt": [1]}},
        {"n": {"$gt": 1, "other": 2}},
        {"n": {"$eq": object()}},
        {"n": float("nan")},
        {"s": "\0"},
        {"s": {"$lt": "\0"}},
        {"\0": 1},
    ],
)
def test_what_no_filter_can_be(wanted: dict[str, Any]) -> None:
    with pytest.raises(MemoryInvalid) as caught:
        conditions_of(wanted, 1)
    assert isinstance(caught.value, ValueError)


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
        yield connection


_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)
_numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 2)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_texts, inner, max_size=2),
    max_leaves=4,
)
_names = st.sampled_from(["a", "b", ""])
_compared = _numbers | _texts
_orders = st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), _compared, min_size=1, max_size=2)
_equals = st.dictionaries(st.sampled_from(["$eq", "$ne"]), _json, min_size=1, max_size=2)
_wanted = st.recursive(
    st.none() | st.booleans() | _compared | st.lists(_compared, max_size=2) | _orders | _equals,
    lambda inner: st.dictionaries(_names, inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.dictionaries(_names, _json | _wanted, max_size=3), wanted=st.dictionaries(_names, _wanted, max_size=2))
def test_it_is_the_same_in_sql(connection: Any, value: dict[str, Any], wanted: dict[str, Any]) -> None:
    parts, args = conditions_of(wanted, 2)
    condition = " AND ".join(["true", *parts])
    asked = f"SELECT {condition} FROM (SELECT $1::text::json AS value) AS item"
    assert connection.execute(asked, [json.dumps(value), *args]).fetchone() == (fits(value, wanted),)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.dictionaries(_names, _json, min_size=1, max_size=2))
def test_every_value_is_found_by_itself(connection: Any, value: dict[str, Any]) -> None:
    wanted = {key: {"$eq": each} for key, each in value.items()}
    parts, args = conditions_of(wanted, 2)
    asked = f"SELECT {' AND '.join(parts)} FROM (SELECT $1::text::json AS value) AS item"
    assert connection.execute(asked, [json.dumps(value), *args]).fetchone() == (True,)
    assert fits(value, wanted)
