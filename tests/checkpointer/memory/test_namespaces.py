"""Which namespaces are below one, and which match: the same in the database and in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from superstep.checkpointer.memory.namespaces import (
    bounds,
    checked_key,
    checked_namespace,
    matches,
    namespace_conditions,
)
from superstep.runtime.faults import MemoryInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

_label = st.text(st.characters(codec="utf-8", exclude_characters="\0."), min_size=1, max_size=2)
_labels = st.lists(_label | st.sampled_from(["a", "b", "ab", "a\x01", "\x01", "_", "%", "\U0010ffff"]), max_size=3)
_FIXTURE = HealthCheck.function_scoped_fixture


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
        yield connection


@settings(max_examples=150, suppress_health_check=[_FIXTURE], deadline=None)
@given(below=_labels.filter(bool), inside=st.booleans(), rest=_labels)
def test_the_bounds_hold_exactly_what_is_below(
    connection: Any, below: list[str], inside: bool, rest: list[str]
) -> None:
    labels = [*below, *rest] if inside else rest
    first, end = bounds(below)
    asked = (
        'SELECT $1::text[] COLLATE "C" >= $2::text[] COLLATE "C" AND $1::text[] COLLATE "C" < $3::text[] COLLATE "C"'
    )
    assert connection.execute(asked, [labels, first, end]).fetchone() == (labels[: len(below)] == below,)


_condition = st.tuples(st.sampled_from(["prefix", "suffix"]), st.lists(_label | st.just("*"), max_size=3))


@settings(max_examples=150, suppress_health_check=[_FIXTURE], deadline=None)
@given(
    labels=_labels.filter(bool), conditions=st.lists(_condition, max_size=2), own=st.booleans(), cut=st.integers(0, 2)
)
def test_conditions_match_the_same_in_sql(
    connection: Any, labels: list[str], conditions: list[Any], own: bool, cut: int
) -> None:
    if own:
        conditions = [*conditions, ("prefix", [*labels[:cut], "*"]), ("suffix", labels[cut:])]
    parts, args = namespace_conditions(conditions, 2)
    asked = f"SELECT {' AND '.join(['true', *parts])} FROM (SELECT $1::text[] AS namespace) AS item"
    assert connection.execute(asked, [labels, *args]).fetchone() == (matches(conditions, labels),)


@pytest.mark.parametrize("labels", [("a.b",), ("",), ("a", 1), ("\0",), ("\ud800",), (None,)])
def test_what_is_no_namespace(labels: tuple[Any, ...]) -> None:
    with pytest.raises(MemoryInvalid) as caught:
        checked_namespace(labels)
    assert isinstance(caught.value, ValueError)


def test_where_nothing_can_be_put() -> None:
    assert checked_namespace(()) == []
    assert checked_namespace(["langgraph", "x"]) == ["langgraph", "x"]
    with pytest.raises(MemoryInvalid, match="at least one label"):
        checked_namespace((), writes=True)
    with pytest.raises(MemoryInvalid, match="LangGraph's own"):
        checked_namespace(("langgraph", "x"), writes=True)


def test_keys_that_cannot_be_stored() -> None:
    assert checked_key(["a"], 7) == "7"
    assert checked_key(["a"], "x" * 1999)
    for key in ("\0", "\ud800", "x" * 2000, "ä" * 1000):
        with pytest.raises(MemoryInvalid):
            checked_key(["a"], key)


def test_an_unknown_way_to_match() -> None:
    with pytest.raises(MemoryInvalid, match="middle"):
        namespace_conditions([("middle", ["a"])], 1)
    with pytest.raises(MemoryInvalid, match="middle"):
        matches([("middle", ["a"])], ["a"])
