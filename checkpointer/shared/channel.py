"""Reducers as channels of a LangGraph state: `Annotated[list[str], append()]`.

LangGraph's own channel for reducers hands a function one update after the other, and does not say which of them are of
one super-step. This one is handed all of them, in the order of the tasks' paths, as LangGraph applies them.

What a channel stores is its value, as any other channel would: a thread goes on when a reducer is put on a channel or
taken off it. Only a version whose super-step had conflicts is stored with the record of these around it; the next
version is its value again. `conflicts_in` reads the record of a checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, cast

from langgraph.channels.base import BaseChannel
from langgraph.errors import EmptyChannelError, InvalidUpdateError
from langgraph.types import Overwrite

from superstep.checkpointer.shared.folding import ABSENT, Conflict, Reducer
from superstep.checkpointer.shared.reducers import Binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["ReducedChannel", "channel_of", "conflicts_in", "plain", "reducer_of", "resolved_in"]

_RECORD: Final = "superstep:conflicts"
_OVERWRITE: Final = "__overwrite__"  # LangGraph's key, for what came through JSON; a test compares it


class ReducedChannel(BaseChannel[Any, Any, Any]):
    """A channel whose updates are merged by its class's reducer. Made by `channel_of`.

    Attributes:
        reducer: of the class.
        value: the value, `ABSENT` if there is none.
        conflicts: what the super-step resolved that the value is of.
    """

    __slots__ = ("conflicts", "value")

    reducer: ClassVar[Reducer]

    def __init__(self, typ: Any, key: str = "") -> None:
        super().__init__(typ, key)
        self.value: Any = self.reducer.empty
        self.conflicts: tuple[Conflict, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReducedChannel) and other.reducer == self.reducer

    __hash__ = None  # type: ignore[assignment]  # as LangGraph's own, which are compared and never looked up

    @property
    def ValueType(self) -> Any:
        """The type of the value."""
        return self.typ

    @property
    def UpdateType(self) -> Any:
        """The type of what is written."""
        return self.typ

    def copy(self) -> Self:
        """See LangGraph."""
        same = self.__class__(self.typ, self.key)
        same.value, same.conflicts = self.value, self.conflicts
        return same

    def checkpoint(self) -> Any:
        """See LangGraph; and the module."""
        if not self.conflicts:
            return super().checkpoint()
        told = [[conflict.kept, conflict.dropped, list(conflict.at)] for conflict in self.conflicts]
        return {_RECORD: told, "value": self.value}

    def from_checkpoint(self, checkpoint: Any) -> Self:
        """See LangGraph."""
        loaded = self.__class__(self.typ, self.key)
        if checkpoint is not _NOTHING:
            loaded.value, loaded.conflicts = plain(checkpoint), tuple(_record(checkpoint))
        return loaded

    def get(self) -> Any:
        """See LangGraph."""
        if self.value is ABSENT:
            raise EmptyChannelError
        return self.value

    def update(self, values: Sequence[Any]) -> bool:
        """Merge all updates of a super-step, or none of them.

        Raises:
            UpdateInvalid: one cannot be merged.
            WriteRefused: the reducer refuses to choose.
            InvalidUpdateError: several want to overwrite the value, as with LangGraph's own reducers.
        """
        if not values:
            return False
        fold = self.reducer.fold(self.value, f"channel {self.key!r}")
        overwritten: Any = ABSENT
        for update in values:
            over, value = _overwrite(update)
            if over and overwritten is not ABSENT:
                raise InvalidUpdateError(f"Channel {self.key!r} can be overwritten only once in a super-step.")
            if over:
                overwritten = value
            elif overwritten is ABSENT:
                fold.add(update)
        self.value = fold.value if overwritten is ABSENT else overwritten
        self.conflicts = tuple(fold.conflicts) if overwritten is ABSENT else ()
        return True


class _Nothing(BaseChannel[Any, Any, Any]):
    """A channel that is always empty, to learn how LangGraph stores one."""

    ValueType = UpdateType = Any

    def from_checkpoint(self, checkpoint: Any) -> Self:
        return self

    def get(self) -> Any:
        raise EmptyChannelError

    def update(self, values: Sequence[Any]) -> bool:
        return False


_NOTHING: Final = _Nothing(Any).checkpoint()


def channel_of(reducer: Reducer) -> type[ReducedChannel]:
    """The channel of a reducer, for `Annotated[…]`. LangGraph makes one of it for each key that it stands at."""
    return type(str(reducer), (ReducedChannel,), {"reducer": reducer, "__slots__": (), "__module__": __name__})


def reducer_of(given: type[ReducedChannel] | Reducer | Callable[[Any, Any], Any]) -> Reducer:
    """The reducer behind what `append()` and its like return, or a function of value and update."""
    if isinstance(given, Reducer):
        return given
    if isinstance(given, type) and issubclass(given, ReducedChannel):
        return given.reducer
    if not callable(given):
        raise TypeError(f"{given!r} is no reducer: use append(), merge(), …, or a function of value and update.")
    return Binary(cast("Callable[[Any, Any], Any]", given))


def plain(stored: Any) -> Any:
    """What a channel holds, without the record of conflicts around it."""
    return stored["value"] if _has_record(stored) else stored


def conflicts_in(channel_values: Mapping[str, Any]) -> dict[str, list[Conflict]]:
    """What the super-steps resolved that wrote the channels of a checkpoint, by channel; the others are left out.

    Args:
        channel_values: of the checkpoint: `(await saver.aget_tuple(config)).checkpoint["channel_values"]`.
    """
    return {name: _record(stored) for name, stored in channel_values.items() if _has_record(stored)}


def resolved_in(channel_values: Mapping[str, Any], written: Iterable[str]) -> int:
    """How many conflicts were resolved in these channels, of those that a super-step wrote."""
    return sum(len(_record(channel_values.get(name))) for name in written)


def _has_record(stored: Any) -> bool:
    return type(stored) is dict and stored.keys() == {_RECORD, "value"}


def _record(stored: Any) -> list[Conflict]:
    return [Conflict(kept, dropped, tuple(at)) for kept, dropped, at in stored[_RECORD]] if _has_record(stored) else []


def _overwrite(update: Any) -> tuple[bool, Any]:
    """Whether an update replaces the value whatever the reducer says, and by what."""
    if isinstance(update, Overwrite):
        return True, update.value
    if isinstance(update, dict) and update.keys() == {_OVERWRITE}:
        return True, update[_OVERWRITE]
    if isinstance(update, dict) and update.get("type") == _OVERWRITE and "value" in update:
        return True, update["value"]
    return False, None
