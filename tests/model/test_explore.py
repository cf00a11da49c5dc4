"""The explorer finds the nearest wrong state, dead ends, and runs that need not end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.model.explore import Counterexample, TooManyStates, explore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Graph:
    """States are numbers, from 0; those without arrows are ends, unless they are negative."""

    def __init__(self, arrows: Mapping[int, tuple[int, ...]]) -> None:
        self.arrows = arrows

    def initial(self) -> int:
        return 0

    def successors(self, s: int) -> Iterator[tuple[str, int]]:
        return ((f"to {to}", to) for to in self.arrows.get(s, ()))

    def is_end(self, s: int) -> bool:
        return s >= 0


def test_every_state_is_looked_at_once() -> None:
    seen: list[int] = []
    explored = explore(Graph({0: (1, 2), 1: (3,), 2: (3, 4)}), seen.append, most=10)
    assert seen == [0, 1, 2, 3, 4]
    assert (explored.states, explored.ends) == (5, 2)
    assert explored.labels == {"to 1", "to 2", "to 3", "to 4"}


def test_a_counterexample_is_a_shortest_one() -> None:
    graph = Graph({0: (1, 2), 1: (3,), 3: (9,), 2: (9,)})
    with pytest.raises(Counterexample) as found:
        explore(graph, lambda s: "nine" if s == 9 else None, most=10)
    assert found.value.trace == ["to 2", "to 9"]
    assert str(found.value) == "nine\n   1. to 2\n   2. to 9"


def test_a_dead_end_is_found() -> None:
    with pytest.raises(Counterexample, match="not all runs have ended") as found:
        explore(Graph({0: (1, -1)}), lambda s: None, most=10)
    assert found.value.trace == ["to -1"]


def test_a_circle_is_found() -> None:
    with pytest.raises(Counterexample, match="a run can go in circles"):
        explore(Graph({0: (1,), 1: (2, 3), 2: (1,)}), lambda s: None, most=10)


def test_the_bound_is_an_error() -> None:
    with pytest.raises(TooManyStates):
        explore(Graph({n: (n + 1,) for n in range(20)}), lambda s: None, most=10)
