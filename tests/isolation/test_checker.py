"""The checker knows every anomaly it has a name for, and finds none where there is none."""

from __future__ import annotations

import random

import pytest

from tests.isolation.checker import Kind, Transaction, check


def kinds(
    *history: Transaction, lists: dict[str, tuple[int, ...]], sets: dict[str, set[int]] | None = None
) -> set[Kind]:
    final_sets = {key: frozenset(values) for key, values in (sets or {}).items()}
    return {found.kind for found in check(history, lists, final_sets)}


def test_a_serial_history_is_in_order() -> None:
    one = Transaction("one", lists={"x": ()}, appended=[("x", 1), ("y", 2)])
    two = Transaction(
        "two", lists={"x": (1,), "y": (2,)}, sets={"s": frozenset()}, appended=[("x", 3)], added=[("s", 4)]
    )
    three = Transaction("three", lists={"x": (1, 3)}, sets={"s": frozenset({4})})
    assert kinds(one, two, three, lists={"x": (1, 3), "y": (2,)}, sets={"s": {4}}) == set()


@pytest.mark.parametrize(
    ("history", "lists", "sets", "expected"),
    [
        (
            [
                Transaction("a", appended=[("x", 1), ("y", 2)]),
                Transaction("b", appended=[("x", 3), ("y", 4)]),
            ],
            {"x": (1, 3), "y": (4, 2)},
            {},
            Kind.G0,
        ),
        ([Transaction("a", lists={"x": (9,)})], {"x": ()}, {}, Kind.G1A),
        (
            [Transaction("a", appended=[("x", 1), ("x", 2)]), Transaction("b", lists={"x": (1,)})],
            {"x": (1, 2)},
            {},
            Kind.G1B,
        ),
        (
            [
                Transaction("a", lists={"y": (2,)}, appended=[("x", 1)]),
                Transaction("b", lists={"x": (1,)}, appended=[("y", 2)]),
            ],
            {"x": (1,), "y": (2,)},
            {},
            Kind.G1C,
        ),
        (
            [
                Transaction("a", appended=[("x", 1), ("y", 2)]),
                Transaction("b", lists={"x": (1,), "y": ()}),
            ],
            {"x": (1,), "y": (2,)},
            {},
            Kind.G_SINGLE,
        ),
        (
            [
                Transaction("a", lists={"x": ()}, appended=[("x", 1)]),
                Transaction("b", lists={"x": ()}, appended=[("x", 2)]),
            ],
            {"x": (1, 2)},
            {},
            Kind.G_SINGLE,
        ),
        (
            [
                Transaction("a", lists={"x": (), "y": ()}, appended=[("x", 1)]),
                Transaction("b", lists={"x": (), "y": ()}, appended=[("y", 2)]),
            ],
            {"x": (1,), "y": (2,)},
            {},
            Kind.G2_ITEM,
        ),
        (
            [
                Transaction("a", sets={"s": frozenset()}, added=[("s", 1)]),
                Transaction("b", sets={"s": frozenset()}, added=[("s", 2)]),
            ],
            {},
            {"s": {1, 2}},
            Kind.G2_ITEM,
        ),
        ([Transaction("a", appended=[("x", 1)])], {"x": ()}, {}, Kind.LOST),
        ([Transaction("a", added=[("s", 1)])], {}, {"s": set()}, Kind.LOST),
        ([Transaction("a", appended=[("x", 1)])], {"x": (1, 1)}, {}, Kind.DOUBLED),
        ([], {"x": (1,)}, {}, Kind.UNKNOWN_VALUE),
        (
            [
                Transaction("a", appended=[("x", 1)]),
                Transaction("b", appended=[("x", 2)]),
                Transaction("c", lists={"x": (2,)}),
            ],
            {"x": (1, 2)},
            {},
            Kind.ORDER,
        ),
    ],
)
def test_an_anomaly_is_found_by_name(
    history: list[Transaction], lists: dict[str, tuple[int, ...]], sets: dict[str, set[int]], expected: Kind
) -> None:
    assert expected in kinds(*history, lists=lists, sets=sets)


@pytest.mark.parametrize("seed", range(20))
def test_serial_executions_are_always_in_order_and_a_read_of_the_past_never_is(seed: int) -> None:
    """Transactions one after the other, in any order of the history; then one of them sees less than it should."""
    rng = random.Random(seed)
    lists: dict[str, tuple[int, ...]] = dict.fromkeys("abc", ())
    history: list[Transaction] = []
    for value in range(60):
        read = {key: lists[key] for key in rng.sample("abc", 2)}
        key = rng.choice("abc")
        history.append(Transaction(f"t{value}", lists=read, appended=[(key, value)]))
        lists[key] += (value,)
    rng.shuffle(history)
    assert check(history, lists, {}) == []
    victim = next(each for each in history if len(each.lists.get(each.appended[0][0], ())) > 3)
    key = victim.appended[0][0]
    victim.lists[key] = victim.lists[key][:-1]
    assert {found.kind for found in check(history, lists, {})} <= {Kind.G_SINGLE, Kind.G2_ITEM}
    assert check(history, lists, {}) != []
