"""What a reducer is. Pure.

A reducer merges into a value the writes of one super-step, all of them, in the order of the tasks that made them and of
each task's calls. It begins a `Fold` on the value as it was before the super-step and adds one write after the other.
So the result does not depend on the order in which the tasks ended, and the fold can tell what met within the
super-step from what was there before.

A write is *resolved* if it met another write of the same super-step, or an item that was there, and one of the two had
to give way. Each is counted, and told as a `Conflict`: what was kept, and what was not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from superstep.runtime.faults import UpdateInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ABSENT", "Absent", "Conflict", "Fold", "Merged", "Reducer", "kind_of", "same"]


class Absent(Enum):
    """That there is no value. A class of its own, because `None` is a value."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two that met, of which one gave way.

    Attributes:
        kept: what is part of the value now.
        dropped: what is not.
        at: where in the value: keys of nested reducers, from the outside in.
    """

    kept: Any
    dropped: Any
    at: tuple[Any, ...] = ()

    def inside(self, key: Any) -> Conflict:
        """The same, of a part."""
        return Conflict(self.kept, self.dropped, (key, *self.at))


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of a value.

    Attributes:
        value: the value now, `ABSENT` if there is none.
        conflicts: what was resolved, in order.
    """

    value: Any
    conflicts: tuple[Conflict, ...] = ()

    @property
    def resolved(self) -> int:
        """How many conflicts were resolved."""
        return len(self.conflicts)


class Fold(ABC):
    """The writes of one super-step on their way into a value. The value that was given is never changed.

    Attributes:
        value: with all writes so far.
        conflicts: what was resolved so far.
    """

    def __init__(self, value: Any, place: str) -> None:
        self.value = value
        self.conflicts: list[Conflict] = []
        self._place = place

    @abstractmethod
    def add(self, update: Any) -> None:
        """Merge one more write.

        Raises:
            UpdateInvalid: it cannot be merged.
            WriteRefused: the reducer refuses to choose.
        """


class Reducer(ABC):
    """How writes to one place are merged. A value without state: equal reducers merge alike."""

    @abstractmethod
    def fold(self, value: Any, place: str) -> Fold:
        """Begin a super-step.

        Args:
            value: as it was before, or `ABSENT`.
            place: what errors call it, such as "channel 'plan'".

        Raises:
            UpdateInvalid: it is no value of this reducer's.
        """

    @property
    def empty(self) -> Any:
        """The value before the first write, `ABSENT` if there is none then."""
        return ABSENT

    def merge(self, value: Any, updates: Iterable[Any], place: str = "a value") -> Merged:
        """What becomes of a value by the writes of one super-step.

        Args:
            value: as it was before, or `ABSENT`.
            updates: in the order of their tasks, and of each task's calls.
            place: what errors call it.

        Raises:
            UpdateInvalid: one cannot be merged.
            WriteRefused: the reducer refuses to choose.
        """
        fold = self.fold(value, place)
        for update in updates:
            fold.add(update)
        return Merged(fold.value, tuple(fold.conflicts))

    @abstractmethod
    def alone(self, update: Any, place: str) -> Any:
        """What this write would put into an empty value: as much of it as can be looked at before it is merged.

        Raises:
            UpdateInvalid: it cannot be merged, whatever the value is.
        """

    @abstractmethod
    def brings(self, update: Any, at: Sequence[Any]) -> bool:
        """Whether what stands at this place of `alone` is whole: what is wrong there is the write's own fault."""

    def invalid(self, place: str, wants: str, got: Any) -> UpdateInvalid:
        """The error for something that cannot be merged. What it holds is not told, only of what kind it is."""
        return UpdateInvalid(
            f"{place[:1].upper()}{place[1:]} has the reducer {self}, which takes {wants}; it was given "
            f"{kind_of(got)}. Nothing of it was stored. Correct the node, or declare another reducer.",
            place=place,
            reducer=str(self),
        )


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same: as `==`, but true is not 1, also inside of lists, tuples and dicts."""
    if one is other:
        return True
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - of arrays and the like: what cannot be compared is not the same
        return False


def kind_of(value: Any) -> str:
    """A value in words, without what it holds."""
    return "nothing" if value is ABSENT else f"a {type(value).__name__}"
