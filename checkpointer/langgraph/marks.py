"""What tells whether an item of a list, or an entry of a dict, is still as it was stored. Pure.

Values are mutable: a node may change a message in place, and a reducer may put another one in its place. So nothing is
concluded from which objects a value holds. What counts is their content when it was stored, packed into bytes: of plain
data the bytes it is stored as, of LangChain's messages and documents their fields (which is what they are stored from,
and several times as fast to pack), of all other objects what the serializer makes of them, in each way it may. Equal
bytes are stored as equal bytes; a change anywhere inside of an item makes its bytes others.

Two threads may be at work on one object: a synchronous node still changes what is being stored. Whoever stores a value
takes its marks before and after: if they differ, nothing is known of it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import ormsgpack
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES

from superstep.checkpointer.langgraph.serializer import PACK, StateSerializer, by_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["Marks", "marks"]

_SHORT, _MEDIUM = 16, 1 << 16  # an array with fewer items has a header of one byte, of three bytes, else of five


class Marks(NamedTuple):
    """The marks of a value's items, one after the other: no item's marks are the beginning of another's.

    Attributes:
        of: `list` or `dict`.
        length: how many items.
        packed: their marks.
    """

    of: type
    length: int
    packed: bytes

    def continues(self, before: Marks) -> bool:
        """Whether what it was is unchanged, and only more has come after it."""
        return self.of is before.of and self.length >= before.length and self.packed.startswith(before.packed)

    def each(self) -> list[bytes]:
        """The marks item by item. Slow: for values that have changed other than by growing.

        Raises:
            ValueError: they cannot be told apart (keys that are no texts may not survive being unpacked).
        """
        found = [ormsgpack.packb(item, option=PACK) for item in self._items()]
        if sum(map(len, found)) != len(self.packed):
            raise ValueError("not every key has survived")
        return found

    def keys(self) -> list[str]:
        """Of a dict: its keys, in their order. As slow."""
        return [key for key, _ in self._items()]

    def _items(self) -> list[Any]:
        items: list[Any] = ormsgpack.unpackb(_header(self.length) + self.packed, option=ormsgpack.OPT_NON_STR_KEYS)
        return items


def marks(serde: SerializerProtocol, value: Any) -> Marks | None:
    """The marks of a list, or of a dict whose keys are texts; `None` for any other value, or one that has none.

    Args:
        serde: stores the value: one of LangGraph's, without encryption.
        value: the value as it is now.
    """
    kind = type(value)
    if kind is list:
        items: Any = value
    elif kind is dict and all(type(key) is str for key in value):
        items = list(value.items())
    else:
        return None
    try:
        packed = ormsgpack.packb(items, default=_contents(serde), option=PACK)
    except (TypeError, ValueError):  # as the serializer will say
        return None
    return Marks(kind, len(items), packed[len(_header(len(items))) :])


def _header(count: int) -> bytes:
    """What msgpack begins an array with."""
    if count < _SHORT:
        return bytes([0x90 | count])
    return b"\xdc" + count.to_bytes(2, "big") if count < _MEDIUM else b"\xdd" + count.to_bytes(4, "big")


def _contents(serde: SerializerProtocol) -> Callable[[Any], Any]:
    """What to pack of an object. Called for each message of a long chat, at every step."""

    def contents(item: Any) -> Any:
        name = _names.get(type(item))
        if name is None and _is_langchains(cls := type(item)):
            name = _names[cls] = f"{cls.__module__}.{cls.__name__}"
        return _dumped(serde, item) if name is None else (name, item.__dict__, item.__pydantic_extra__)

    return contents


def _is_langchains(cls: type) -> bool:
    return issubclass(cls, BaseMessage | Document) and (cls.__module__, cls.__name__) in SAFE_MSGPACK_TYPES


def _dumped(serde: SerializerProtocol, item: Any) -> Any:
    """As it is stored alone, and by the fields of its models: see `codec.dump`, which takes either."""
    found: list[Any] = [*serde.dumps_typed(item)]
    if isinstance(serde, StateSerializer):
        with suppress(TypeError, ValueError), by_fields():
            found += serde.dumps_typed(item)
    return found


_names: dict[type, str] = {}  # of classes of LangChain's: these are for ever
