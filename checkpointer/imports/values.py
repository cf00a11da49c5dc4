"""Values that LangGraph's serializer has stored, for rows of this saver. Pure.

Both store values as msgpack, in which an object is the name of its class and what it is made from. So a value is taken
over as it is, byte by byte: nothing is lost by loading it, and no class that a row names is imported to do so. What
has to be known is that it comes back as what it was. A value that names only classes which LangGraph rebuilds anyway
does. One that names others is loaded with the classes of the graph, and dumped again: each name must be in it as often
as before, for what could not be rebuilt is plain data by then.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_DELTA_SNAPSHOT,
    EXT_METHOD_SINGLE_ARG,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
)

from superstep.checkpointer.langgraph.codec import dump
from superstep.checkpointer.langgraph.differences import unsealed
from superstep.checkpointer.langgraph.encryption import decrypted, sealed_as
from superstep.checkpointer.langgraph.fidelity import is_langgraphs
from superstep.runtime.faults import ValueNotSerializable

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["Translator", "named_classes"]

_NAMED = (
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_METHOD_SINGLE_ARG,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
)
_PLAIN = ("null", "bytes", "bytearray")


class Translator:
    """From the serializer that threads were stored with to that of a saver.

    Attributes:
        target: the saver's serializer.
    """

    def __init__(self, source: SerializerProtocol, target: SerializerProtocol) -> None:
        """Take the serializers; `source` is LangGraph's own, or what the other saver was given as `serde`."""
        self.source = source
        self.target = target
        self._inner = unsealed(target)
        self._as_it_is = is_langgraphs(source) and is_langgraphs(target)

    def stored(self, place: SerializerProtocol, kind: str, data: bytes, what: str) -> tuple[str, bytes]:
        """A value for its row here.

        Args:
            place: the target's serializer for that row (`encryption.at`).
            kind: how it was stored.
            data: as what.
            what: names it in messages.

        Raises:
            ValueNotSerializable: it would not come back as what it was.
        """
        if not self._as_it_is:
            return dump(place, self._loaded(kind, data, what), what)
        kind, data = self._open(kind, data, what)
        self._check(kind, data, what)
        return sealed_as(place, (kind, data))

    def plain(self, kind: str, data: bytes, what: str) -> Any:
        """A value as an object, checked as `stored` does."""
        if not self._as_it_is:
            return self._loaded(kind, data, what)
        kind, data = self._open(kind, data, what)
        self._check(kind, data, what)
        return self._inner.loads_typed((kind, data))

    def _open(self, kind: str, data: bytes, what: str) -> tuple[str, bytes]:
        try:
            return decrypted(self.source, kind, data)
        except Exception as e:  # a cipher may raise anything
            raise ValueNotSerializable(
                f"{what} is encrypted ({kind}), and could not be decrypted ({type(e).__name__}). Give the import the "
                f"EncryptedSerializer that it was stored with."
            ) from e

    def _loaded(self, kind: str, data: bytes, what: str) -> Any:
        try:
            return self.source.loads_typed((kind, data))
        except Exception as e:  # whatever a serializer of a user's raises
            raise ValueNotSerializable(f"{what} could not be read: {type(e).__name__}: {e}") from e

    def _check(self, kind: str, data: bytes, what: str) -> None:
        if kind in _PLAIN:
            return
        named = named_classes(data) if kind == "msgpack" else None
        if named is not None and named.keys() <= SAFE_MSGPACK_TYPES:
            return
        try:
            value = self._inner.loads_typed((kind, data))
        except Exception as e:
            raise ValueNotSerializable(
                f"{what} is stored as {kind!r}, which this saver does not read ({type(e).__name__})."
            ) from e
        if named is None:
            return
        again = Counter[tuple[str, str]]()
        with suppress(TypeError, ValueError):
            again = named_classes(self._inner.dumps_typed(value)[1])
        if lost := named - again:
            module, name = min(lost)
            raise ValueNotSerializable(
                f"{what} holds a {module}.{name}, which would not come back as one. Name the graph whose schemas name "
                f"that class (--graph GRAPH)."
            )


def named_classes(data: bytes) -> Counter[tuple[str, str]]:
    """The classes that a value in msgpack is made of, by module and name. Imports nothing.

    Raises:
        ValueError: it is no msgpack, or not as LangGraph writes it.
    """
    found = Counter[tuple[str, str]]()

    def look(code: int, content: bytes) -> None:
        if code in _NAMED:
            module, name, *_ = ormsgpack.unpackb(content, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)
            found[module, name] += 1
        elif code == EXT_DELTA_SNAPSHOT:
            ormsgpack.unpackb(content, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)

    ormsgpack.unpackb(data, ext_hook=look, option=ormsgpack.OPT_NON_STR_KEYS)
    return found
