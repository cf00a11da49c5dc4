"""What a task has staged itself in this execution, as its own reads show it. Pure.

Read off the staged statements: what an abandoned execution has staged is thus nowhere. An item that was put counts
with the value it was given, one that was deleted is not there. What was remembered may turn out to be known already
when the super-step commits: `get` shows it where the database has nothing, searches do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from superstep.checkpointer.memory.filters import fits
from superstep.checkpointer.memory.namespaces import matches
from superstep.checkpointer.memory.queries import sql
from superstep.checkpointer.memory.values import value_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from superstep.checkpointer.memory.namespaces import Condition
    from superstep.checkpointer.step.read_set import Staged

__all__ = ["OwnWrite", "OwnWrites"]

_PUTS: Final = ("put", "remember_key", "remember_near")
_ARGS: Final = 14  # of `NewVersion`; what comes after them is the statement's own


@dataclass(frozen=True, slots=True)
class OwnWrite:
    """What was staged last of one item.

    Attributes:
        namespace: of the item.
        key: of the item.
        value: its value; `None`: it is deleted.
        vectors: by which it will be found.
        moment: when it was staged; its creation, as far as this task knows.
        sure: it will be there when the super-step commits; it may not, if it was only remembered.
    """

    namespace: tuple[str, ...]
    key: str
    value: dict[str, Any] | None
    vectors: Sequence[Sequence[float]] = ()
    moment: datetime | None = None
    sure: bool = True

    def distance(self, vector: Sequence[float]) -> float | None:
        """Of the nearest of its vectors, by cosine; `None` without one of these dimensions."""
        found = [_cosine_distance(each, vector) for each in self.vectors if len(each) == len(vector)]
        return min((each for each in found if each is not None), default=None)


class OwnWrites:
    """The staged writes of one execution, as far as they are the memory's."""

    def __init__(self, staged: Sequence[Staged], schema: str) -> None:
        names = {text: name for name, text in sql(schema).items()}
        self._items: dict[tuple[tuple[str, ...], str], OwnWrite] = {}
        self._forgotten: list[tuple[str, ...]] = []
        for each in staged:
            name = names.get(each.sql)
            if name in _PUTS:
                self._put(str(name), each.args)
            elif name in ("delete", "forget"):
                namespace, key = tuple(each.args[0]), each.args[1]
                self._items[namespace, key] = OwnWrite(namespace, key, None)
            elif name == "forget_below":
                below = tuple(each.args[0])
                self._forgotten.append(below)
                self._items = {at: item for at, item in self._items.items() if at[0][: len(below)] != below}

    def _put(self, how: str, args: Sequence[Any]) -> None:
        namespace, key, value, _, _, vectors, *_, moment = args[:_ARGS]
        at = tuple(namespace), key
        before = self._items.get(at)
        if how != "put" and before is not None and before.value is not None:
            return
        gone = how == "remember_key" and (before is not None or self.is_forgotten(at[0]))
        self._items.pop(at, None)  # the latest comes last
        numbers = [[float(number) for number in text[1:-1].split(",")] for text in vectors]
        self._items[at] = OwnWrite(*at, value_of(value), numbers, moment, sure=gone or how == "put")

    def of(self, namespace: Sequence[str], key: str) -> OwnWrite | None:
        """What was staged last of an item, if anything."""
        found = self._items.get((tuple(namespace), key))
        if found is None and self.is_forgotten(namespace):
            return OwnWrite(tuple(namespace), key, None)
        return found

    def is_forgotten(self, namespace: Sequence[str]) -> bool:
        """Whether all that the database has in a namespace is deleted."""
        return any(tuple(namespace[: len(each)]) == each for each in self._forgotten)

    def found(self, below: Sequence[str], wanted: Mapping[str, Any] | None) -> list[OwnWrite]:
        """Items that a search in a namespace finds, the latest first."""
        return [
            each
            for each in reversed(self._items.values())
            if each.value is not None
            and each.sure
            and each.namespace[: len(below)] == tuple(below)
            and fits(each.value, wanted)
        ]

    def namespaces(self, conditions: Sequence[Condition]) -> list[tuple[str, ...]]:
        """Namespaces that match and have an item."""
        found = [each.namespace for each in self._items.values() if each.value is not None and each.sure]
        return [each for each in found if matches(conditions, each)]

    def hidden(self, first: int) -> tuple[list[str], list[Any]]:
        """SQL that leaves out what the database has of these items, with arguments from number `first` on."""
        parts: list[str] = []
        args: list[Any] = []
        sure = [each for each in self._items.values() if each.sure]
        if sure:
            own = f"unnest(${first}::text[], ${first + 1}::text[]) AS own (namespace, key)"
            parts.append(
                f"NOT EXISTS (SELECT FROM {own} WHERE own.key = memory.key "
                f"AND own.namespace = array_to_string(memory.namespace, '.'))"
            )
            args += [[".".join(each.namespace) for each in sure], [each.key for each in sure]]
        for each in self._forgotten:
            at = first + len(args)
            parts.append(f"namespace[1:{len(each)}] <> ${at}::text[]")
            args.append(list(each))
        return parts, args


def _cosine_distance(one: Sequence[float], other: Sequence[float]) -> float | None:
    sizes = sum(a * a for a in one) * sum(b * b for b in other)
    if not sizes:
        return None
    near = sum(a * b for a, b in zip(one, other, strict=True)) / math.sqrt(sizes)
    return 1 - max(-1.0, min(1.0, near))
