"""The reducers by the names that authors write: in `Annotated[…]`, in `shared(…)`, and inside of `merge`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

from superstep.checkpointer.shared.channel import channel_of, reducer_of
from superstep.checkpointer.shared.reducers import (
    Append,
    CompareAndSet,
    Extreme,
    LastWriter,
    Merge,
    Reject,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from superstep.checkpointer.shared.channel import ReducedChannel
    from superstep.checkpointer.shared.folding import Reducer

__all__ = ["Swap", "append", "compare_and_set", "last_writer", "maximum", "merge", "minimum", "reject", "swap"]


class Swap(TypedDict):
    """A write to a `compare_and_set`. See `swap`."""

    expected: Any
    new: Any


def append(
    *, key: str | Callable[[Any], Any] | None = None, unique: bool = False, newest: bool = False
) -> type[ReducedChannel]:
    """A list that grows. A write is a list of items, or one item that is no list.

    Args:
        key: a field, or a function of an item: of several items with the same one, one is kept.
        unique: of several equal items one is kept.
        newest: keep the one that came last, at the place of the one that was there; else the first one stays.
    """
    return channel_of(Append(key, unique, newest))


def merge(
    each: type[ReducedChannel] | Reducer | Callable[[Any, Any], Any] | None = None,
    /,
    *,
    only: bool = False,
    **keys: type[ReducedChannel] | Reducer | Callable[[Any, Any], Any],
) -> type[ReducedChannel]:
    """A dict that is merged key by key. A write is a dict of some of its keys; no key is ever removed.

    Args:
        each: merges what is written to a key; `last_writer()` unless something is said.
        only: refuse keys that are not among `keys`.
        **keys: reducers of single keys.
    """
    by_key: Mapping[str, Reducer] = {key: reducer_of(given) for key, given in keys.items()}
    rest = LastWriter() if each is None else reducer_of(each)
    return channel_of(Merge(None if only else rest, by_key))


def last_writer() -> type[ReducedChannel]:
    """The last write stays. Each other one that it replaces within a super-step is told as a conflict."""
    return channel_of(LastWriter())


def compare_and_set(*, otherwise: Literal["keep", "refuse"] = "keep") -> type[ReducedChannel]:
    """A value that is replaced only by whoever knows what it is: a write is `swap(expected, new)`.

    A plain value as a write expects that there is none yet.

    Args:
        otherwise: what becomes of a swap that expected something else: "keep" the value as it is and tell the conflict,
            or "refuse" by `SwapRefused`. For a shared value, that is a conflict: the task decides again.
    """
    return channel_of(CompareAndSet(otherwise))


def swap(expected: Any, new: Any) -> Swap:
    """A write to a `compare_and_set`: set `new`, if the value is `expected`; `None` is also no value at all."""
    return {"expected": expected, "new": new}


def reject() -> type[ReducedChannel]:
    """A value of which there is one write in a super-step: a second, different one is a `WriteRefused`."""
    return channel_of(Reject())


def maximum(*, key: str | Callable[[Any], Any] | None = None) -> type[ReducedChannel]:
    """The greatest value that was ever written; of equal ones, the first. `key` is what values are compared by."""
    return channel_of(Extreme(greatest=True, key=key))


def minimum(*, key: str | Callable[[Any], Any] | None = None) -> type[ReducedChannel]:
    """The smallest value that was ever written. See `maximum`."""
    return channel_of(Extreme(greatest=False, key=key))
