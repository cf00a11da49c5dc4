"""Paths, keys, values, and JSON that a database holds."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.checkpointer.derived.paths import MISSING, Misfit, at_path, canonical, key_of, loads, number_of, parts_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(-1000, 1000, places=3) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


@given(VALUES)
def test_a_value_comes_back_from_its_canonical_text(value: Any) -> None:
    assert loads(canonical(value)) == value


@given(VALUES, VALUES)
def test_equal_values_have_one_text_and_others_another(one: Any, other: Any) -> None:
    same = one == other and (isinstance(one, bool) == isinstance(other, bool) or not isinstance(one, int))
    if same:
        assert (
            canonical(one) == canonical(other)
            or "true" in canonical([one, other])
            or "false" in canonical([one, other])
        )
    elif one != other:
        assert canonical(one) != canonical(other)


def test_numbers_are_compared_as_numbers() -> None:
    assert canonical(Decimal("7.00")) == canonical(7) == "7"
    assert key_of([Decimal("7.0")]) == key_of([7]) == key_of([7.0]) == key_of(["7"]) == "7"
    assert key_of([Decimal("0.10")]) == "0.1"
    assert canonical("7") == '"7"'


def test_keys_of_several_parts_are_not_mixed_up() -> None:
    assert key_of(["a", "b"]) == '["a","b"]'
    assert key_of(['a","b', "c"]) != key_of(["a", 'b","c'])
    assert key_of([True, 1]) == '["true","1"]'


@pytest.mark.parametrize(
    ("value", "why"),
    [(MISSING, "missing"), (None, "null"), ({}, "no text"), ("x" * 1001, "longer"), ("ä" * 501, "longer")],
)
def test_what_is_no_key(value: Any, why: str) -> None:
    with pytest.raises(Misfit, match=why):
        key_of([value])


def test_what_is_a_number() -> None:
    assert [number_of(each) for each in (1, Decimal("0.1"), "2.50")] == [1, Decimal("0.1"), Decimal("2.5")]
    for wrong in (True, None, MISSING, "x", "NaN", "Infinity", "1e9999", [1], "1E-9999"):
        with pytest.raises(Misfit):
            number_of(wrong)


def test_places_in_a_payload() -> None:
    payload = {"a": {"b": [10, {"c": 1}]}, "d": None}
    assert at_path(payload, parts_of("a.b.1.c")) == 1
    assert at_path(payload, ("d",)) is None
    for path in ("x", "a.x", "a.b.2", "a.b.x", "d.x", "a.b.0.c"):
        assert at_path(payload, parts_of(path)) is MISSING
    for wrong in ("", "a..b", ".a"):
        with pytest.raises(ValueError, match="path"):
            parts_of(wrong)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{bad", "not JSON"),
        ("[" * 100_000, "nested"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e99999}', "digits"),
        ('{"a": "\\u0000"}', "U\\+0000"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\uDFFF": 1}', "surrogate"),
    ],
)
def test_what_no_database_holds_is_no_json_here(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        loads(text)


def test_escapes_that_are_none_are_left_alone() -> None:
    text = json.dumps({"a": "\\u0000 \\ud800", "b": "\U0001f600"})
    assert loads(text) == {"a": "\\u0000 \\ud800", "b": "\U0001f600"}
