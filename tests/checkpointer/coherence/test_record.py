"""What is kept of a super-step: bounded, readable again, and the skew worked out before any look is dropped."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from superstep.checkpointer.coherence.record import MOST, Look, Skew, as_kept, label_of, measured, skew_of

LOOKS = st.lists(
    st.builds(
        Look,
        task=st.sampled_from("abc"),
        key=st.sampled_from("klm"),
        digest=st.sampled_from("12"),
        as_of=st.none(),
        label=st.just(("SELECT", "")),
        after=st.booleans(),
    ),
    max_size=12,
)
ELSEWHERE = st.lists(
    st.builds(
        Look,
        task=st.sampled_from("abc"),
        key=st.sampled_from("xyz"),
        digest=st.sampled_from("12"),
        as_of=st.floats(0, 1000),
        label=st.just(("cache", "")),
    ),
    max_size=12,
)


def fact(key: str, digest: str = "d", task: str = "t", **more: Any) -> Look:
    return Look(task, key, digest, None, ("SELECT 1", key), **more)


@given(LOOKS, ELSEWHERE)
def test_the_skew_is_the_largest_difference_between_two_tasks(looks: list[Look], others: list[Look]) -> None:
    found = skew_of([*looks, *others])
    expected: dict[str, Skew] = {}
    for one, two in combinations([look for look in (*looks, *others) if not look.after], 2):
        if one.key == two.key and one.task != two.task:
            seconds, differs = expected.get(one.key, Skew(0.0, False))
            apart = abs(one.as_of - two.as_of) if one.as_of is not None and two.as_of is not None else 0.0
            expected[one.key] = Skew(max(seconds, apart), differs or one.digest != two.digest)
    assert found == expected


@given(LOOKS, ELSEWHERE, st.dictionaries(st.sampled_from("klm"), st.integers(1, 3)))
def test_what_is_kept_is_read_again(looks: list[Look], others: list[Look], conflicts: dict[str, int]) -> None:
    kept = as_kept(json.loads(json.dumps(measured([*looks, *others], conflicts))))
    last = {look.key: look for look in (*looks, *others)}
    assert {(look.key, look.digest, look.as_of, look.label) for look in kept.looks} == {
        (look.key, look.digest, look.as_of, look.label) for look in last.values()
    }
    skews = skew_of([*looks, *others])
    assert kept.compared == len(skews)
    assert set(kept.skews) == {key for key, skew in skews.items() if round(skew.seconds, 6) or skew.differs}
    assert kept.conflicts == conflicts


def test_nothing_is_kept_of_a_super_step_that_saw_nothing() -> None:
    assert measured([], {}) == {}


def test_no_more_keys_are_kept_than_there_is_room_for() -> None:
    record = measured([fact(str(n)) for n in range(MOST + 5)], {})
    assert len(record["facts"]) == MOST
    assert as_kept(record).left_out == 5
    assert len(json.dumps(measured([fact("x" * 16, "y" * 12)], {}))) < 120


def test_without_labels_keys_stand_for_themselves() -> None:
    record = measured([fact("k"), Look("t", "o", "d", 1.0, ("account:7", ""))], {})
    del record["labels"], record["names"]
    assert [look.label for look in as_kept(record).looks] == [("k", ""), ("o", "")]


def test_what_stands_on_staged_writes_is_no_other_state_of_the_database() -> None:
    assert skew_of([fact("k", "1", "a"), fact("k", "2", "b", after=True)]) == {}
    assert skew_of([fact("k", "1", "a"), fact("k", "2", "b")]) == {"k": Skew(0.0, True)}


def test_labels_are_short() -> None:
    assert label_of("SELECT  balance\n  FROM account WHERE id = $1", (7,)) == (
        "SELECT balance FROM account WHERE id = $1",
        "7",
    )
    sql, args = label_of("SELECT " + "x" * 10_000, ("a" * 1000, [1.0] * 384, None, True, 5))
    assert (len(sql), len(args)) == (64, 32)
    assert label_of("SELECT", ([1, 2],)) == ("SELECT", "…")
