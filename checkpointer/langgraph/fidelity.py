"""Whether a value comes back from storage as what it was. Pure.

Plain data does, with what any LangGraph saver makes of it: a tuple becomes a list, a subclass of `dict`, `list` or
`str` that class itself, half a surrogate pair a question mark. So do messages and documents, as LangChain dumps them.
Objects of other classes come back as themselves, their fields as well, or they are refused.
"""

from __future__ import annotations

import dataclasses
import operator
from collections import Counter, deque
from enum import Enum
from itertools import zip_longest
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import SendProtocol, _DeltaSnapshot
from langgraph.types import Command, Interrupt, Overwrite, Send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["is_langgraphs", "what_is_lost"]

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_GROUPS = (set, frozenset, deque)
_BUILTIN = (str, int, float, bytes, dict, list, tuple)
# As LangGraph packs, but without keys that are no texts: of those not all come back.
_SCAN = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_REPLACE_SURROGATES
)


def what_is_lost(serde: SerializerProtocol, value: Any, stored: tuple[str, bytes]) -> str | None:
    """What does not come back, in words: "a Card at ['cards'][0] comes back as dict"; `None` if everything does.

    A serializer of a user's own making, and pickle, are trusted.

    Args:
        serde: made `stored`.
        value: what was stored.
        stored: as it was stored.
    """
    if type(value) in _PLAIN or not _has_objects(value) or not is_langgraphs(serde) or stored[0].startswith("pickle"):
        return None
    return next(_losses(value, serde.loads_typed(stored), ""), None)


def is_langgraphs(serde: SerializerProtocol) -> bool:
    """Whether a serializer is one of LangGraph's, by itself or inside of one that encrypts."""
    return isinstance(getattr(serde, "serde", serde), JsonPlusSerializer)  # inside of an encrypting one, or itself


def _has_objects(value: Any) -> bool:
    """Whether there is more in it than plain data and what always comes back. At the speed of packing."""
    found = False

    def look(item: Any) -> Any:
        nonlocal found
        cls = type(item)
        inside = _insides.get(cls)
        if inside is None:
            inside = _inside(item)
            if cls is Send or not isinstance(item, SendProtocol):  # what is only like one may not be, the next time
                _insides[cls] = inside
        if inside is _opaque:
            found = True
        return inside(item)

    try:
        ormsgpack.packb(value, default=look, option=_SCAN)
    except (TypeError, ValueError):  # a key that is no text, a number that does not fit: look closely
        return True
    return found


def _inside(value: Any) -> Callable[[Any], Any]:
    """What is to be looked at inside of values of this one's class. Asked once a class: some of it is slow to tell."""
    if type(value) in _GROUPS:
        return tuple
    if isinstance(value, _DeltaSnapshot | Interrupt | Overwrite):
        return operator.attrgetter("value")
    if isinstance(value, Command):
        return operator.attrgetter("update", "resume", "goto")
    if isinstance(value, SendProtocol):
        return operator.attrgetter("arg")
    return _nothing if _name(value) in SAFE_MSGPACK_TYPES else _opaque


def _nothing(_: Any) -> None:
    """Of a value that always comes back."""


def _opaque(_: Any) -> None:
    """Of a value that may not."""


_insides: WeakKeyDictionary[type, Callable[[Any], Any]] = WeakKeyDictionary()


def _name(value: Any) -> tuple[str, str]:
    return type(value).__module__, type(value).__name__


def _losses(before: Any, after: Any, at: str) -> Iterator[str]:
    """Where the two differ, first things first."""
    cls = type(before)
    if cls not in _PLAIN and (isinstance(before, Enum) or not isinstance(before, _BUILTIN) or hasattr(cls, "_fields")):
        yield from _of_objects(before, after, at)
    elif isinstance(before, dict):
        yield from _of_dicts(before, after, at) if isinstance(after, dict) else (_said(before, after, at),)
    elif isinstance(before, list | tuple):
        same = isinstance(after, list | tuple) and len(before) == len(after)
        yield from _of_pairs(before, after, at) if same else (_said(before, after, at),)
    elif not isinstance(before, type(after)):
        yield _said(before, after, at)


def _of_objects(before: Any, after: Any, at: str) -> Iterator[str]:
    if type(before) is not type(after):
        yield _said(before, after, at)
    elif isinstance(before, set | frozenset):
        if before != after or Counter(map(type, before)) != Counter(map(type, after)):
            yield _said(next(iter(before - after), before), "something else", at)
    elif isinstance(before, deque):
        yield from _of_pairs(before, after, at)
    elif isinstance(before, Enum):
        if before != after:
            yield _said(before, after, at)
    elif isinstance(before, SendProtocol):
        yield from _losses(before.arg, after.arg, f"{at}.arg")
    elif _name(before) not in SAFE_MSGPACK_TYPES or dataclasses.is_dataclass(before):
        for name in _fields(before):
            yield from _losses(getattr(before, name, None), getattr(after, name, None), f"{at}.{name}")


def _fields(value: Any) -> Iterable[str]:
    """The names of what an object is made of. What a model excludes from being stored is its author's choice."""
    cls = type(value)
    if hasattr(cls, "model_fields"):
        kept = [name for name, field in cls.model_fields.items() if not field.exclude]
        return [*kept, *(value.model_extra or ())]
    if isinstance(old := getattr(cls, "__fields__", None), dict):
        return old
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return getattr(cls, "_fields", ())


def _of_dicts(before: dict[Any, Any], after: dict[Any, Any], at: str) -> Iterator[str]:
    for (key, value), pair in zip_longest(before.items(), after.items(), fillvalue=(None, None)):
        if key != pair[0]:
            yield _said(key, pair[0], f"the keys of {at}" if at else "its keys")
        yield from _losses(value, pair[1], f"{at}[{key!r}]")


def _of_pairs(before: Iterable[Any], after: Iterable[Any], at: str) -> Iterator[str]:
    for position, (one, other) in enumerate(zip(before, after, strict=True)):
        yield from _losses(one, other, f"{at}[{position}]")


def _said(before: Any, after: Any, at: str) -> str:
    what = after if after == "something else" else f"a {type(after).__name__}"
    return f"a {type(before).__name__}{f' at {at}' if at else ''} would come back as {what}"
