"""The reducers. Pure, without a driver, a clock or a choice by chance.

| reducer | writes of one super-step | order of the writes |
|---|---|---|
| `Append` | all items; with a key, one for each key | decides where items stand, and which of a key stays |
| `Merge` | key by key, by the reducer of the key | as the key's reducer |
| `LastWriter` | the last one stays, each that it replaces is told | decides |
| `CompareAndSet` | each whose expectation holds when it is its turn | decides |
| `Reject` | one, or several that say the same | does not matter |
| `Extreme` | the greatest, or the smallest | does not matter |
| `Binary` | each by a function of yours | as the function says |

Across super-steps, `Append`, `Extreme` and `Reject` are idempotent where they can be: an item of a known key, a smaller
value, the same value change nothing. Folding in pieces is the same as folding at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.shared.folding import ABSENT, Conflict, Fold, Reducer, kind_of, same
from superstep.checkpointer.shared.parts import described, frozen, part
from superstep.runtime.faults import SwapRefused, UpdateInvalid, WriteRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

__all__ = ["Append", "Binary", "CompareAndSet", "Extreme", "LastWriter", "Merge", "Reject"]


class _Whole(Reducer):
    """A reducer whose writes are values themselves."""

    def alone(self, update: Any, place: str) -> Any:
        """See `Reducer`."""
        return update

    def brings(self, update: Any, at: Sequence[Any]) -> bool:
        """See `Reducer`."""
        return True


# -- append


@dataclass(frozen=True)
class Append(Reducer):
    """See `append`."""

    key: str | Callable[[Any], Any] | None = None
    unique: bool = False
    newest: bool = False

    def fold(self, value: Any, place: str) -> Fold:
        """See `Reducer`."""
        return _Appending(self, value, place)

    @property
    def empty(self) -> Any:
        """See `Reducer`."""
        return []

    def alone(self, update: Any, place: str) -> Any:
        """See `Reducer`."""
        return self.merge([], [update], place).value

    def brings(self, update: Any, at: Sequence[Any]) -> bool:
        """See `Reducer`."""
        return bool(at)  # an item is whole; the list is not

    def key_of(self, item: Any, place: str) -> Hashable:
        """What two items must not have in common."""
        if self.key is None:
            return frozen(item)
        try:
            found = self.key(item) if callable(self.key) else part(item, self.key)
            return frozen(found)
        except Exception as e:
            raise self.invalid(place, f"items with {described(self.key)}", item) from e

    def __str__(self) -> str:
        said = [f"key={described(self.key)}"] if self.key is not None else []
        said += ["unique=True"] * (self.unique and self.key is None) + ["newest=True"] * self.newest
        return f"append({', '.join(said)})"


class _Appending(Fold):
    def __init__(self, reducer: Append, value: Any, place: str) -> None:
        if value is not ABSENT and not isinstance(value, list | tuple):
            raise reducer.invalid(place, "a list as its value", value)
        super().__init__([] if value is ABSENT else list(value), place)
        self._reducer = reducer
        self._at: dict[Hashable, int] | None = None
        if reducer.unique or reducer.key is not None:
            self._at = {}
            for at, item in enumerate(self.value):
                self._at.setdefault(reducer.key_of(item, place), at)

    def add(self, update: Any) -> None:
        for item in update if isinstance(update, list | tuple) else [update]:
            self._add(item)

    def _add(self, item: Any) -> None:
        if self._at is not None:
            key = self._reducer.key_of(item, self._place)
            at = self._at.setdefault(key, len(self.value))
            if at < len(self.value):
                kept = self.value[at]
                if self._reducer.newest:
                    self.value[at], kept, item = item, item, kept
                self.conflicts.append(Conflict(kept, item))
                return
        self.value.append(item)


# -- keyed merge


@dataclass(frozen=True)
class LastWriter(_Whole):
    """See `last_writer`."""

    def fold(self, value: Any, place: str) -> Fold:
        """See `Reducer`."""
        return _Replacing(value, place)

    def __str__(self) -> str:
        return "last_writer()"


class _Replacing(Fold):
    _written = False

    def add(self, update: Any) -> None:
        if self._written and not same(self.value, update):
            self.conflicts.append(Conflict(update, self.value))
        self.value, self._written = update, True


@dataclass(frozen=True)
class Merge(Reducer):
    """See `merge`."""

    each: Reducer | None = field(default_factory=LastWriter)
    keys: Mapping[str, Reducer] = field(default_factory=dict)

    def fold(self, value: Any, place: str) -> Fold:
        """See `Reducer`."""
        return _Merging(self, value, place)

    @property
    def empty(self) -> Any:
        """See `Reducer`."""
        return {}

    def alone(self, update: Any, place: str) -> Any:
        """See `Reducer`."""
        if not isinstance(update, dict):
            raise self.invalid(place, "a dict", update)
        return {key: self.of(key, place).alone(each, _inside(place, key)) for key, each in update.items()}

    def brings(self, update: Any, at: Sequence[Any]) -> bool:
        """See `Reducer`."""
        if not at or at[0] not in update:
            return False
        return self.of(at[0], "").brings(update[at[0]], at[1:])

    def of(self, key: Any, place: str) -> Reducer:
        """The reducer of a key."""
        reducer = self.keys.get(key, self.each) if isinstance(key, str) else self.each
        if reducer is None:
            raise UpdateInvalid(
                f"{place[:1].upper()}{place[1:]} has the reducer {self}, which merges these keys and no others; it was "
                f"given another one. Nothing of it was stored.",
                place=place,
                reducer=str(self),
            )
        return reducer

    def __hash__(self) -> int:
        return hash((self.each, tuple(sorted(self.keys))))

    def __str__(self) -> str:
        said = [] if self.each == LastWriter() else [f"each={self.each}"]
        said += [f"{key}={reducer}" for key, reducer in self.keys.items()]
        return f"merge({', '.join(said)})"


class _Merging(Fold):
    def __init__(self, reducer: Merge, value: Any, place: str) -> None:
        if value is not ABSENT and not isinstance(value, dict):
            raise reducer.invalid(place, "a dict as its value", value)
        super().__init__({} if value is ABSENT else dict(value), place)
        self._reducer = reducer
        self._folds: dict[Any, Fold] = {}

    def add(self, update: Any) -> None:
        if not isinstance(update, dict):
            raise self._reducer.invalid(self._place, "a dict", update)
        for key, each in update.items():
            fold = self._folds.get(key)
            if fold is None:
                reducer = self._reducer.of(key, self._place)
                before = self.value.get(key, ABSENT)
                fold = self._folds[key] = reducer.fold(before, _inside(self._place, key))
            known = len(fold.conflicts)
            fold.add(each)
            self.conflicts += [conflict.inside(key) for conflict in fold.conflicts[known:]]
            if fold.value is not ABSENT:
                self.value[key] = fold.value


def _inside(place: str, key: Any) -> str:
    return f"key {key!r} of {place}"


# -- one of several


@dataclass(frozen=True)
class CompareAndSet(Reducer):
    """See `compare_and_set`."""

    otherwise: str = "keep"

    def fold(self, value: Any, place: str) -> Fold:
        """See `Reducer`."""
        return _Swapping(self, value, place)

    def alone(self, update: Any, place: str) -> Any:
        """See `Reducer`."""
        return _swap_of(update)[1]

    def brings(self, update: Any, at: Sequence[Any]) -> bool:
        """See `Reducer`."""
        return True

    def __str__(self) -> str:
        return "compare_and_set()" if self.otherwise == "keep" else f"compare_and_set(otherwise={self.otherwise!r})"


class _Swapping(Fold):
    def __init__(self, reducer: CompareAndSet, value: Any, place: str) -> None:
        super().__init__(value, place)
        self._reducer = reducer

    def add(self, update: Any) -> None:
        expected, new = _swap_of(update)
        if same(None if self.value is ABSENT else self.value, expected):
            self.value = new
        elif self._reducer.otherwise == "keep":
            self.conflicts.append(Conflict(self.value, new))
        else:
            raise SwapRefused(
                f"{self._place[:1].upper()}{self._place[1:]} is not what a swap expected: another write came first. "
                f"Nothing was stored; decide again on what is there now.",
                place=self._place,
                reducer=str(self._reducer),
            )


def _swap_of(update: Any) -> tuple[Any, Any]:
    """What it expects and what it sets. A plain value expects that there is none yet."""
    if isinstance(update, dict) and update.keys() == {"expected", "new"}:
        return update["expected"], update["new"]
    return None, update


@dataclass(frozen=True)
class Reject(_Whole):
    """See `reject`."""

    def fold(self, value: Any, place: str) -> Fold:
        """See `Reducer`."""
        return _Rejecting(self, value, place)

    def __str__(self) -> str:
        return "reject()"


class _Rejecting(Fold):
    _written = False

    def __init__(self, reducer: Reject, value: Any, place: str) -> None:
        super().__init__(value, place)
        self._reducer = reducer

    def add(self, update: Any) -> None:
        if self._written and not same(self.value, update):
            raise WriteRefused(
                f"{self._place[:1].upper()}{self._place[1:]} was written twice in one super-step, with different "
                f"values, and its reducer {self._reducer} chooses none. Nothing was stored. Let one task write it, or "
                f"declare a reducer that chooses.",
                place=self._place,
                reducer=str(self._reducer),
            )
        self.value, self._written = update, True


@dataclass(frozen=True)
class Extreme(_Whole):
    """See `maximum` and `minimum`."""

    greatest: bool
    key: str | Callable[[Any], Any] | None = None

    def fold(self, value: Any, place: str) -> Fold:
        """See `Reducer`."""
        return _Comparing(self, value, place)

    def alone(self, update: Any, place: str) -> Any:
        """See `Reducer`."""
        self.rank(update, place)
        return update

    def rank(self, value: Any, place: str) -> Any:
        """What values are compared by."""
        try:
            rank = value if self.key is None else self.key(value) if callable(self.key) else part(value, self.key)
            if rank == rank and rank is not None:
                return rank
        except Exception as e:
            raise self.invalid(place, f"values that can be compared by {described(self.key)}", value) from e
        raise self.invalid(place, "values that can be compared, so neither NaN nor None", value)

    def __str__(self) -> str:
        return (
            f"{'maximum' if self.greatest else 'minimum'}({'' if self.key is None else f'key={described(self.key)}'})"
        )


class _Comparing(Fold):
    _written = False

    def __init__(self, reducer: Extreme, value: Any, place: str) -> None:
        super().__init__(value, place)
        self._reducer = reducer

    def add(self, update: Any) -> None:
        reducer, place, before = self._reducer, self._place, self.value
        rank = reducer.rank(update, place)
        if before is ABSENT:
            self.value, self._written = update, True
            return
        known = reducer.rank(before, place)
        try:
            wins = bool(rank > known if reducer.greatest else rank < known)
        except Exception as e:
            raise reducer.invalid(place, f"values that can be compared with {kind_of(known)}", update) from e
        if self._written and not same(before, update):
            self.conflicts.append(Conflict(update, before) if wins else Conflict(before, update))
        self.value, self._written = update if wins else before, True


# -- a function of the user's


@dataclass(frozen=True)
class Binary(Reducer):
    """A function of value and update, such as `operator.add`. What it resolves is its own affair, and not counted.

    It must be pure: it may run many times for one write.
    """

    function: Callable[[Any, Any], Any]

    def fold(self, value: Any, place: str) -> Fold:
        """See `Reducer`."""
        return _Applying(self, value, place)

    def alone(self, update: Any, place: str) -> Any:
        """See `Reducer`."""
        return ABSENT

    def brings(self, update: Any, at: Sequence[Any]) -> bool:
        """See `Reducer`."""
        return False

    def __str__(self) -> str:
        return described(self.function)


class _Applying(Fold):
    def __init__(self, reducer: Binary, value: Any, place: str) -> None:
        super().__init__(value, place)
        self._reducer = reducer

    def add(self, update: Any) -> None:
        if self.value is ABSENT:
            self.value = update
            return
        try:
            self.value = self._reducer.function(self.value, update)
        except Exception as e:
            wants = f"what can be merged into {kind_of(self.value)} (it raised {type(e).__name__})"
            raise self._reducer.invalid(self._place, wants, update) from e
