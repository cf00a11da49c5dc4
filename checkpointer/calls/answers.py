"""Answers of models as bytes and back, exactly, whatever a model said.

An answer that was paid must be kept, and msgpack does not hold all that a model can say: an integer above 64 bits among
a tool call's arguments, half of a surrogate pair, a class of messages that the serializer does not rebuild. So an
answer goes through the saver's serializer if it comes back from it as itself, and otherwise as JSON text with tags, in
bytes, which the serializer only passes on (or encrypts).

The JSON text: null, booleans, numbers, strings and arrays stand for themselves, and an object has one key that says
what it is: `d` a dict, as pairs; `t` a tuple; `i` an integer, hexadecimal; `s` a string with lone surrogates, as
hexadecimal UTF-8; `m` a message, by class and fields; `x` anything else, by the serializer.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, Generation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["NotKept", "dumped", "loaded"]

_MESSAGES: dict[str, type[BaseMessage]] = {kind.__name__: kind for kind in (AIMessage, AIMessageChunk)}
# What a program decides on. Of the rest, which describes the answer, that is left out which nothing can hold.
_SAID = frozenset({"content", "tool_calls", "invalid_tool_calls", "type", "id", "name"})
_LEFT_OUT = object()


class NotKept(Exception):
    """No encoding holds what the answer says: its class is in the text."""


def dumped(serde: SerializerProtocol, answer: Sequence[Generation]) -> tuple[str, bytes]:
    """Kind and bytes of an answer.

    Raises:
        NotKept: it says something that only its program knows: an open file, a cycle, a nesting without end.
    """
    plain = [[g.message if isinstance(g, ChatGeneration) else g.text, g.generation_info] for g in answer]
    try:
        kept = serde.dumps_typed(plain)
        if _same(serde.loads_typed(kept), plain):
            return kept
    except (TypeError, ValueError, RecursionError):  # ormsgpack's errors are TypeErrors
        pass
    try:
        fields = [[_encoded(serde, said), _encoded(serde, info, lossy=True)] for said, info in plain]
        return serde.dumps_typed(json.dumps(fields).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise NotKept(type(error).__name__) from error


def loaded(serde: SerializerProtocol, kind: str, data: bytes) -> list[Generation]:
    """The answer again."""
    plain = serde.loads_typed((kind, data))
    if isinstance(plain, bytes):
        plain = [[_decoded(serde, said), _decoded(serde, info)] for said, info in json.loads(plain)]
    return [
        ChatGeneration(message=said, generation_info=info)
        if isinstance(said, BaseMessage)
        else Generation(text=said, generation_info=info)
        for said, info in plain
    ]


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - an array, say, has no truth; the other encoding takes it
        return False


def _encoded(serde: SerializerProtocol, value: Any, *, lossy: bool = False) -> Any:
    kind = type(value)
    if value is None or kind in (bool, float):
        return value
    if kind is int:
        return value if value.bit_length() <= 64 else {"i": hex(value)}
    if kind is str:
        return value if _is_text(value) else {"s": value.encode(errors="surrogatepass").hex()}
    if kind in (list, tuple):
        items = [_encoded(serde, each, lossy=lossy) for each in value]
        items = [None if each is _LEFT_OUT else each for each in items]
        return items if kind is list else {"t": items}
    if kind is dict:
        return {"d": _pairs(serde, value, lossy=lossy)}
    if isinstance(value, BaseMessage):
        return {"m": [_name(value), _fields(serde, value)]}
    return _foreign(serde, value, lossy=lossy)


def _pairs(serde: SerializerProtocol, value: dict[Any, Any], *, lossy: bool) -> list[list[Any]]:
    pairs = [[_encoded(serde, key, lossy=lossy), _encoded(serde, each, lossy=lossy)] for key, each in value.items()]
    return [pair for pair in pairs if _LEFT_OUT not in pair]


def _fields(serde: SerializerProtocol, message: BaseMessage) -> dict[str, Any]:
    fields = {**message.__dict__, **(message.__pydantic_extra__ or {})}
    found = {name: _encoded(serde, value, lossy=name not in _SAID) for name, value in fields.items()}
    return {name: value for name, value in found.items() if value is not _LEFT_OUT}


def _foreign(serde: SerializerProtocol, value: Any, *, lossy: bool) -> Any:
    try:
        kind, data = serde.dumps_typed(value)
    except (TypeError, ValueError, RecursionError):
        if lossy:
            return _LEFT_OUT
        raise
    return {"x": [kind, b64encode(data).decode()]}


def _decoded(serde: SerializerProtocol, value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(serde, each) for each in value]
    if not isinstance(value, dict):
        return value
    ((tag, held),) = value.items()
    if tag == "i":
        return int(held, 16)
    if tag == "s":
        return bytes.fromhex(held).decode(errors="surrogatepass")
    if tag == "t":
        return tuple(_decoded(serde, each) for each in held)
    if tag == "d":
        return {_decoded(serde, key): _decoded(serde, each) for key, each in held}
    if tag == "m":
        # Not validated: it is what the program had, whatever that was.
        return _MESSAGES[held[0]].model_construct(**{name: _decoded(serde, each) for name, each in held[1].items()})
    kind, data = held
    return serde.loads_typed((kind, b64decode(data)))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(message: BaseMessage) -> str:
    """The nearest class that every program has."""
    found = next((kind.__name__ for kind in type(message).__mro__ if kind in _MESSAGES.values()), None)
    if found is None:
        raise TypeError(f"no answer of a model: {type(message).__name__}")
    return found
