"""Looks at every state that a model can reach, breadth first: the first state that is wrong is a nearest one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

__all__ = ["Counterexample", "Explored", "TooManyStates", "explore"]

S = TypeVar("S", bound="Hashable")


class Explorable(Protocol[S]):
    """What is explored: states are hashable, and never changed in place."""

    def initial(self) -> S:
        """Where it begins."""
        ...

    def successors(self, s: S) -> Iterator[tuple[str, S]]:
        """What may happen next, with the state after it."""
        ...

    def is_end(self, s: S) -> bool:
        """Whether a state that nothing follows is one to end in."""
        ...


class TooManyStates(AssertionError):
    """The bound was reached, so nothing is said about the rest."""


class Counterexample(AssertionError):
    """A state that must not be reachable.

    Attributes:
        broken: what is wrong with it.
        trace: the labels on a shortest way to it.
        state: it.
    """

    def __init__(self, broken: str, trace: Sequence[str], state: object) -> None:
        steps = "\n".join(f"  {n:2d}. {label}" for n, label in enumerate(trace, 1))
        super().__init__(f"{broken}\n{steps}")
        self.broken, self.trace, self.state = broken, list(trace), state


@dataclass(frozen=True, slots=True)
class Explored:
    """What was looked at.

    Attributes:
        states: how many.
        ends: in how many of them nothing follows.
        labels: all that has happened somewhere, so that one sees what a model covers.
    """

    states: int
    ends: int
    labels: frozenset[str]


def explore(model: Explorable[S], check: Callable[[S], str | None], *, most: int) -> Explored:
    """Look at every reachable state.

    Args:
        model: what is explored.
        check: what is wrong with a state, if anything.
        most: states to look at.

    Raises:
        Counterexample: a state is wrong, one that nothing follows is none to end in, or a run need not end.
        TooManyStates: there are more.
    """
    search = _Search(model, check)
    while search.level:
        search.look_further()
        if len(search.came) > most:
            raise TooManyStates(f"more than {most} states")
    if (at := _on_a_circle(search.followed)) is not None:
        state = next(state for state, n in search.number.items() if n == at)
        raise search.counterexample("15: a run can go in circles", state)
    return Explored(len(search.came), search.ends, frozenset(search.labels))


class _Search(Generic[S]):
    """What is known so far.

    Attributes:
        number: of each state, in the order they were found.
        came: by number, where a state was found from, and by which label.
        followed: by number, the states after a state.
        level: the states that were found last.
        labels: all so far.
        ends: states so far that nothing follows.
    """

    def __init__(self, model: Explorable[S], check: Callable[[S], str | None]) -> None:
        self._model, self._check = model, check
        self.number: dict[S, int] = {}
        self.came: list[tuple[int, str]] = []
        self.followed: list[list[int]] = []
        self.level: list[S] = []
        self.labels: set[str] = set()
        self.ends = 0
        self._found(model.initial(), -1, "")

    def look_further(self) -> None:
        """From the states that were found last."""
        level, self.level = self.level, []
        for state in level:
            at = self.number[state]
            after: list[int] = []
            for label, following in self._model.successors(state):
                self.labels.add(label)
                if following not in self.number:
                    self._found(following, at, label)
                after.append(self.number[following])
            self.followed.append(after)
            self.ends += not after
            if not after and not self._model.is_end(state):
                raise self.counterexample("15: nothing can happen any more, and not all runs have ended", state)

    def _found(self, state: S, at: int, label: str) -> None:
        self.number[state] = len(self.came)
        self.came.append((at, label))
        self.level.append(state)
        if broken := self._check(state):
            raise self.counterexample(broken, state)

    def counterexample(self, broken: str, state: S) -> Counterexample:
        """How one comes to this state."""
        at, trace = self.number[state], []
        while at > 0:
            at, label = self.came[at]
            trace.append(label)
        return Counterexample(broken, trace[::-1], state)


def _on_a_circle(followed: list[list[int]]) -> int | None:
    """A node of a graph that is on, or behind, a circle (Kahn's topological order)."""
    arrows = [0] * len(followed)
    for after in followed:
        for to in after:
            arrows[to] += 1
    todo = [n for n, count in enumerate(arrows) if count == 0]
    left = len(followed)
    while todo:
        left -= 1
        for to in followed[todo.pop()]:
            arrows[to] -= 1
            if arrows[to] == 0:
                todo.append(to)
    return next(n for n, count in enumerate(arrows) if count) if left else None
