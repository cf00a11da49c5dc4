"""The rules of merging: what stays, what gives way, in which order, and how much of it is counted."""

from __future__ import annotations

import operator
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.checkpointer.shared.channel import reducer_of
from superstep.checkpointer.shared.folding import ABSENT, Conflict, Reducer, same
from superstep.reducers import (
    append,
    compare_and_set,
    last_writer,
    maximum,
    merge,
    minimum,
    reject,
    swap,
)
from superstep.runtime.faults import SwapRefused, UpdateInvalid, WriteRefused

SMALL = st.integers(-3, 3)
ITEM = st.fixed_dictionaries({"id": SMALL, "note": st.sampled_from("ab")})
SWAP = st.builds(swap, st.none() | SMALL, SMALL)
ROWS: dict[str, tuple[Any, Any]] = {  # of each: the reducer, and what is written to it
    "append": (append(), st.lists(SMALL, max_size=3) | SMALL),
    "append unique": (append(unique=True), st.lists(SMALL, max_size=3)),
    "append by key": (append(key="id"), st.lists(ITEM, max_size=3)),
    "append newest": (append(key="id", newest=True), ITEM),
    "merge": (merge(), st.dictionaries(st.sampled_from("xyz"), SMALL)),
    "merge nested": (
        merge(append(unique=True), best=maximum(), inner=merge(best=minimum())),
        st.fixed_dictionaries(
            {}, optional={"log": SMALL, "best": SMALL, "inner": st.dictionaries(st.sampled_from(["best", "x"]), SMALL)}
        ),
    ),
    "last writer": (last_writer(), SMALL),
    "compare and set": (compare_and_set(), SWAP),
    "maximum": (maximum(), SMALL),
    "maximum by key": (maximum(key="id"), ITEM),
    "minimum": (minimum(), SMALL),
    "function": (operator.add, SMALL),
}
CASES = pytest.mark.parametrize("name", ROWS)


def rule(given: Any) -> Reducer:
    return reducer_of(given)


@CASES
@given(st.data())
def test_in_pieces_it_is_the_same_as_at_once(name: str, data: st.DataObject) -> None:
    """Within one super-step: a fold that goes on is the fold of all."""
    reducer, update = rule(ROWS[name][0]), ROWS[name][1]
    before = reducer.merge(ABSENT, data.draw(st.lists(update, max_size=3))).value
    updates = data.draw(st.lists(update, max_size=6))
    whole = reducer.merge(before, updates)
    fold = reducer.fold(before, "it")
    told = 0
    for each in updates:
        fold.add(each)
        assert len(fold.conflicts) >= told
        told = len(fold.conflicts)
    assert (fold.value, tuple(fold.conflicts)) == (whole.value, whole.conflicts)
    assert whole.resolved == told


@CASES
@given(st.data())
def test_what_was_there_is_not_changed(name: str, data: st.DataObject) -> None:
    """A super-step that is rolled back leaves its value as it was."""
    reducer, update = rule(ROWS[name][0]), ROWS[name][1]
    before = reducer.merge(ABSENT, data.draw(st.lists(update, max_size=3))).value
    shown = repr(before)
    reducer.merge(before, data.draw(st.lists(update, max_size=4)))
    assert repr(before) == shown


@pytest.mark.parametrize(
    "name", ["append", "append unique", "append by key", "maximum", "minimum", "merge", "function"]
)
@given(st.data())
def test_super_steps_may_be_cut_anywhere(name: str, data: st.DataObject) -> None:
    """Associative: the value does not say where one super-step ended and the next began."""
    reducer, update = rule(ROWS[name][0]), ROWS[name][1]
    updates = data.draw(st.lists(update, max_size=6))
    cut = data.draw(st.integers(0, len(updates)))
    first = reducer.merge(ABSENT, updates[:cut]).value
    assert reducer.merge(first, updates[cut:]).value == reducer.merge(ABSENT, updates).value


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@given(st.data())
def test_of_extremes_the_order_does_not_matter(name: str, data: st.DataObject) -> None:
    reducer = rule(ROWS[name][0])
    updates = data.draw(st.lists(SMALL, min_size=1, max_size=6))
    shuffled = data.draw(st.permutations(updates))
    one, other = reducer.merge(ABSENT, updates), reducer.merge(ABSENT, shuffled)
    assert one.value == other.value == (max if name == "maximum" else min)(updates)


@pytest.mark.parametrize("name", ["append unique", "append by key", "maximum", "minimum", "merge", "last writer"])
@given(st.data())
def test_writing_the_same_again_changes_nothing(name: str, data: st.DataObject) -> None:
    """Idempotent: in a later super-step, as when a flow is run again."""
    reducer, update = rule(ROWS[name][0]), ROWS[name][1]
    written = data.draw(update)
    once = reducer.merge(reducer.merge(ABSENT, data.draw(st.lists(update, max_size=3))).value, [written]).value
    assert reducer.merge(once, [written]).value == once


@given(st.lists(st.lists(ITEM, max_size=3), max_size=5))
def test_of_items_of_one_key_one_stays_and_each_other_is_told(updates: list[list[Any]]) -> None:
    items = [item for update in updates for item in update]
    for newest in (False, True):
        merged = rule(append(key="id", newest=newest)).merge(ABSENT, updates)
        by_id: dict[int, Any] = {}
        for item in items:
            if newest or item["id"] not in by_id:
                by_id[item["id"]] = item
        assert merged.value == list(by_id.values())
        assert merged.resolved == len(items) - len(merged.value)
        left = Counter(map(repr, items)) - Counter(map(repr, merged.value))
        assert Counter(repr(conflict.dropped) for conflict in merged.conflicts) == left


@given(st.lists(SMALL, max_size=6))
def test_the_last_writer_stays_and_each_that_it_replaces_is_told(written: list[int]) -> None:
    merged = rule(last_writer()).merge(99, written)
    assert merged.value == (written[-1] if written else 99)
    assert [(c.dropped, c.kept) for c in merged.conflicts] == [
        (one, other) for one, other in pairwise(written) if one != other
    ]


@given(st.lists(SWAP, max_size=6))
def test_a_swap_wins_if_it_knows_what_is_there(swaps: list[Any]) -> None:
    merged = rule(compare_and_set()).merge(ABSENT, swaps)
    now, lost = None, 0
    for each in swaps:
        if each["expected"] == now:
            now = each["new"]
        else:
            lost += 1
    assert (None if merged.value is ABSENT else merged.value) == now
    assert merged.resolved == lost


def test_a_swap_may_be_refused() -> None:
    reducer = rule(compare_and_set(otherwise="refuse"))
    assert reducer.merge(ABSENT, ["a", swap("a", "b")]).value == "b"
    with pytest.raises(SwapRefused, match="expected: another write came first"):
        reducer.merge("a", [swap("a", "b"), swap("a", "c")])
    with pytest.raises(SwapRefused):
        reducer.merge("a", ["b"])  # a plain value expects that there is none


def test_a_second_write_is_rejected_only_if_it_differs() -> None:
    reducer = rule(reject())
    assert reducer.merge("before", ["a", "a"]).value == "a"
    with pytest.raises(WriteRefused, match=r"written twice in one super-step.*reject\(\)") as caught:
        reducer.merge("before", ["a", "b"], "channel 'x'")
    assert (caught.value.place, caught.value.reducer) == ("channel 'x'", "reject()")
    with pytest.raises(WriteRefused):
        reducer.merge(ABSENT, [1, True])


def test_conflicts_of_parts_say_where() -> None:
    reducer = rule(merge(tasks=merge(append(key="id"))))
    first, second = {"id": 1, "v": "a"}, {"id": 1, "v": "b"}
    merged = reducer.merge({"tasks": {"t": [first]}}, [{"tasks": {"t": second}, "owner": "x"}, {"owner": "y"}])
    assert merged.value == {"tasks": {"t": [first]}, "owner": "y"}
    assert merged.conflicts == (Conflict(first, second, ("tasks", "t")), Conflict("y", "x", ("owner",)))


def test_only_the_keys_that_were_named() -> None:
    reducer = rule(merge(only=True, a=last_writer()))
    assert reducer.merge(ABSENT, [{"a": 1}]).value == {"a": 1}
    with pytest.raises(UpdateInvalid, match="these keys and no others"):
        reducer.merge(ABSENT, [{"b": 1}])


@pytest.mark.parametrize(
    ("given", "before", "update", "words"),
    [
        (append(), {"a": 1}, 1, r"append\(\), which takes a list as its value; it was given a dict"),
        (append(key="id"), [], {"no": "id"}, r"items with 'id'; it was given a dict"),
        (append(key="id"), [], {"id": object}, None),
        (append(key="id"), [], {"id": bytearray(b"x")}, r"items with 'id'"),
        (merge(), {}, [1], r"merge\(\), which takes a dict; it was given a list"),
        (merge(), "text", {}, r"takes a dict as its value; it was given a str"),
        (
            merge(n=maximum()),
            {},
            {"n": None},
            r"Key 'n' of the thing has the reducer maximum\(\).*neither NaN nor None",
        ),
        (maximum(), ABSENT, float("nan"), "neither NaN nor None"),
        (maximum(), 1, "a", r"compared with a int; it was given a str"),
        (minimum(key="at"), ABSENT, 3, r"minimum\(key='at'\).*compared by 'at'; it was given a int"),
        (operator.add, 1, "a", r"raised TypeError\); it was given a str"),
    ],
)
def test_what_cannot_be_merged_is_named(given: Any, before: Any, update: Any, words: str | None) -> None:
    reducer = rule(given)
    if words is None:
        assert reducer.merge(before, [update]).value == [update]
        return
    with pytest.raises(UpdateInvalid, match=words) as caught:
        reducer.merge(before, [update], "the thing")
    assert caught.value.reducer in (str(reducer), "maximum()")
    assert "the thing" in caught.value.place


def test_no_content_is_in_an_error() -> None:
    with pytest.raises(UpdateInvalid) as caught:
        rule(merge()).merge({}, ["hunter2"])
    assert "hunter2" not in str(caught.value)


def test_true_is_not_one() -> None:
    assert not same(True, 1)
    assert not same({"a": [1]}, {"a": [True]})
    assert same({"a": [1, (2,)]}, {"a": [1.0, [2]]})
    assert rule(append(unique=True)).merge([1], [[True, 1, 0, False]]).value == [1, True, 0, False]


def test_a_reducer_says_what_it_is() -> None:
    """By which a name may be declared twice."""
    assert str(rule(append(key="id", newest=True))) == "append(key='id', newest=True)"
    assert str(rule(merge(append(), a=maximum()))) == "merge(each=append(), a=maximum())"
    assert rule(append(key="id")) == rule(append(key="id")) != rule(append(key="no"))
    with pytest.raises(TypeError, match="is no reducer"):
        rule("append")
