"""Filters on metadata: what the database finds is what the same filter says of each object in Python."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from superstep.checkpointer.collections.filters import narrowed, where_of
from superstep.runtime.faults import DocumentInvalid

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, 1e30]),
    st.sampled_from(["", "a", "B", "é"]),
)
OBJECTS = st.dictionaries(st.sampled_from("xyz"), st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), max_size=3)
COMPARED = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 1.0]), st.sampled_from(["", "a", "B", "é"]))
CONDITIONS = st.one_of(
    SCALARS,
    st.tuples(st.sampled_from(["$eq", "$ne", "$contains"]), SCALARS).map(lambda pair: dict([pair])),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), COMPARED).map(lambda pair: dict([pair])),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(SCALARS, max_size=2)).map(lambda pair: dict([pair])),
    st.booleans().map(lambda there: {"$exists": there}),
)
FILTERS = st.recursive(
    st.dictionaries(st.sampled_from("xyz"), CONDITIONS, max_size=2),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2).map(lambda each: {"$and": each}),
        st.lists(inner, min_size=1, max_size=2).map(lambda each: {"$or": each}),
        inner.map(lambda each: {"$not": each}),
    ),
    max_leaves=4,
)


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, and 1.0 is 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def equals(metadata: Any, key: str, value: Any) -> bool:
    if key not in metadata:
        return False
    if isinstance(value, list):
        held = metadata[key]
        return isinstance(held, list) and all(any(same(each, one) for one in held) for each in value)
    return same(metadata[key], value)


def holds(filter_: Any, metadata: Any) -> bool:
    return all(entry(key, value, metadata) for key, value in filter_.items())


def entry(key: str, value: Any, metadata: Any) -> bool:
    if key == "$not":
        return not holds(value, metadata)
    if key in ("$and", "$or"):
        return (all if key == "$and" else any)(holds(each, metadata) for each in value)
    if isinstance(value, dict):
        return all(condition(key, name, each, metadata) for name, each in value.items())
    return equals(metadata, key, value)


def condition(key: str, name: str, value: Any, metadata: Any) -> bool:
    if name in ("$eq", "$ne"):
        return equals(metadata, key, value) is (name == "$eq")
    if name in ("$in", "$nin"):
        return any(equals(metadata, key, each) for each in value) is (name == "$in")
    if name == "$exists":
        return (key in metadata) is value
    if name == "$contains":
        return equals(metadata, key, [value])
    held = metadata.get(key)
    if (
        isinstance(held, bool)
        or isinstance(held, str) is not isinstance(value, str)
        or not isinstance(held, int | float | str)
    ):
        return False
    one: Any = held.encode() if isinstance(held, str) else held
    other: Any = value.encode() if isinstance(value, str) else value
    return bool({"$gt": one > other, "$gte": one >= other, "$lt": one < other, "$lte": one <= other}[name])


def test_the_database_finds_what_python_does(database_url: str) -> None:
    with asyncio.Runner() as runner:
        conn = runner.run(asyncpg.connect(database_url))

        @settings(max_examples=200, deadline=None, phases=[Phase.generate, Phase.shrink], derandomize=True)
        @given(filter_=FILTERS, objects=st.lists(OBJECTS, max_size=8))
        def check(filter_: Any, objects: list[Any]) -> None:
            sql, args = where_of(filter_, 2)
            found = runner.run(
                conn.fetch(
                    f"SELECT n FROM unnest($1::text[]::jsonb[]) WITH ORDINALITY AS u (metadata, n) WHERE {sql}",
                    list(map(json.dumps, objects)),
                    *args,
                )
            )
            assert [row["n"] - 1 for row in found] == [n for n, each in enumerate(objects) if holds(filter_, each)]

        check()
        runner.run(conn.close())


def test_arguments_go_on_after_those_of_the_condition() -> None:
    sql, args = narrowed("source = $1 -- a comment", ["f"], {"tenant": "a"})
    assert sql == "(source = $1 -- a comment\n) AND ((metadata @> $2::text::jsonb))"
    assert args == ["f", '{"tenant": "a"}']
    assert narrowed(None, [], None) == (None, [])
    assert narrowed("a", [1], {}) == ("a", [1])


@pytest.mark.parametrize(
    "filter_",
    [
        {"$or": []},
        {"$or": {}},
        {"$nor": [{}]},
        {"a": {"$regex": "x"}},
        {"a": {"$gt": True}},
        {"a": {"$gt": [1]}},
        {"a": {"$in": "x"}},
        {"a": {1, 2}},
        {"a": float("nan")},
        {"a": "\0"},
        {"$not": 1},
        {1: 2},
    ],
)
def test_what_is_no_filter_is_refused(filter_: Any) -> None:
    with pytest.raises(DocumentInvalid, match="filter is none"):
        where_of(filter_)


def test_nothing_of_a_filter_gets_into_the_statement() -> None:
    sql, args = where_of({"'; DROP TABLE x": {"$gt": "'; DROP"}, "b": {"$exists": True}})
    assert "DROP" not in sql
    assert sum("DROP" in each for each in args) == 2
