"""What is encrypted when the saver's serializer is LangGraph's `EncryptedSerializer`, and how. Pure.

*Values* are encrypted together with their place: the column and the key of their row. What is read at another place
than it was written for is refused, so a row cannot be planted, nor a value moved from one row to another, without the
key; nor can one that came in without encryption. That holds as far as the cipher authenticates what it encrypts, as AES
in a mode with a tag does. Not held: that a row was deleted, or set back to what it was before.

*Columns of text and JSON* hold what the server itself has to look at, and the whole of it encrypted beside that.

*Digests* that lie open are keyed, so that nobody can try what they may be digests of. Metadata can still be filtered by
all entries: keys and values are digested one by one, so what contains what stays as it was.

Without encryption every function here gives back what it was given.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from superstep.checkpointer.langgraph.keys import DELTA_COUNTERS
from superstep.checkpointer.langgraph.sealed import MATCH, SEALED, SEALED_TEXT, readable_json, readable_text
from superstep.runtime.faults import ValueNotAuthentic
from superstep.runtime.telemetry.names import TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = [
    "NOWHERE",
    "Where",
    "answer_at",
    "at",
    "call_column",
    "decrypted",
    "encrypts",
    "key_name",
    "keyed",
    "metadata_column",
    "metadata_filter",
    "moved",
    "opened_json",
    "opened_text",
    "refuse_encrypted",
    "sealed_as",
    "sealed_text",
    "sealing",
    "stats_column",
    "value_name",
]

_READABLE = frozenset({"source", "step", "parents", "run_id", DELTA_COUNTERS, TRACEPARENT})  # of metadata
_SECRET_STATS = frozenset({"labels", "names", "prompts"})
_READABLE_OF_CALL = ("deployment", "ms")
_READABLE_OF_TRIED = ("deployment", "ms", "counts")


class Where(NamedTuple):
    """A checkpoint: thread, namespace, id."""

    thread_id: str = ""
    ns: str = ""
    checkpoint_id: str = ""


NOWHERE = Where()


def encrypts(serde: SerializerProtocol) -> bool:
    """Whether what goes through a serializer is encrypted."""
    return EncryptedSerializer in type(serde).__mro__  # `isinstance` would compare a protocol's attributes, one by one


def at(serde: SerializerProtocol, column: str, *key: str | int | bytes) -> SerializerProtocol:
    """The serializer for one place: values that it writes are read back there, and nowhere else.

    Args:
        serde: the saver's.
        column: what the value is.
        key: what identifies its row.
    """
    return _Sealed(cast("EncryptedSerializer", serde), (column, *key)) if encrypts(serde) else serde


def sealing(serde: SerializerProtocol) -> Callable[..., SerializerProtocol]:
    """`at` for this serializer; without a key, what it gives says so of values that are encrypted."""
    return partial(at, serde) if encrypts(serde) else lambda *_: _Keyless(serde)


class _Keyless:
    """A serializer without a key, for values of which nobody has looked at the kind."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde
        self.dumps_typed = serde.dumps_typed

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        refuse_encrypted(self._serde, data[0])
        return self._serde.loads_typed(data)


def moved(here: SerializerProtocol, there: SerializerProtocol, data: tuple[str, bytes]) -> tuple[str, bytes]:
    """A value that was encrypted for one place, for another one: as it was dumped, whatever it is made of.

    Args:
        here: what `at` gave for its place.
        there: what it gave for the other.
        data: the value, encrypted.

    Raises:
        ValueNotAuthentic: it was not written there.
    """
    return cast("_Sealed", there).seal(cast("_Sealed", here).open(data))


def sealed_as(place: SerializerProtocol, dumped: tuple[str, bytes]) -> tuple[str, bytes]:
    """A value as the serializer inside has dumped it, for the place that `at` gave; without encryption as it is."""
    return place.seal(dumped) if isinstance(place, _Sealed) else dumped


def decrypted(serde: SerializerProtocol, kind: str, data: bytes) -> tuple[str, bytes]:
    """What LangGraph's own savers have stored with an `EncryptedSerializer`, as the serializer inside had dumped it.

    Raises:
        ValueNotAuthentic: it is encrypted, and the serializer has no key. A cipher may raise anything else.
    """
    name, plus, cipher = kind.partition("+")
    if not plus:
        return kind, data
    if not encrypts(serde):
        raise ValueNotAuthentic("The value is encrypted, and no serializer with a key was given.")
    return name, cast("EncryptedSerializer", serde).cipher.decrypt(cipher, data)


def answer_at(serde: SerializerProtocol, thread_id: str, request: bytes) -> SerializerProtocol:
    """The serializer for a model's answer to a request, by its keyed digest.

    An answer moves with its question when a subgraph runs again, so it is bound to the question and the thread.
    """
    return at(serde, "answer of a model", thread_id, request)


class _Sealed:
    """An `EncryptedSerializer` for the values of one place."""

    def __init__(self, serde: EncryptedSerializer, place: tuple[str | int | bytes, ...]) -> None:
        self._serde = serde
        self.serde = serde.serde  # what is inside, under the name that an `EncryptedSerializer` has it by
        self._column = str(place[0])
        parts = [part.hex() if isinstance(part, bytes) else part for part in place]
        self._place = blake2b(json.dumps(parts).encode(), digest_size=16).digest()

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self.seal(self._serde.serde.dumps_typed(obj))

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return self._serde.serde.loads_typed(self.open(data))

    def seal(self, dumped: tuple[str, bytes]) -> tuple[str, bytes]:
        """Encrypt what the serializer inside has made of a value."""
        # The kind of the value is inside too: it decides what reads the bytes.
        return self._serde.dumps_typed([self._place, *dumped])

    def open(self, data: tuple[str, bytes]) -> tuple[str, bytes]:
        """The inverse of `seal`.

        Raises:
            ValueNotAuthentic: it was not made for this place with this key.
        """
        outer, plus, _ = data[0].partition("+")
        if not plus or outer == "pickle":
            raise self._refused("it is not encrypted")
        try:
            place, kind, value = self._serde.loads_typed(data)
        except Exception as error:  # a cipher may raise anything
            raise self._refused("it was not encrypted with this key, or changed since") from error
        if place != self._place:
            raise self._refused("it was encrypted for another place")
        return kind, value

    def _refused(self, why: str) -> ValueNotAuthentic:
        return ValueNotAuthentic(
            f"A stored value ({self._column}) was refused: {why}. What this saver stores is encrypted and bound to its "
            f"row. Read threads that were stored without encryption with the serializer they were stored with."
        )


def refuse_encrypted(serde: SerializerProtocol, kind: str) -> None:
    """Say in plain words why a serializer without a key cannot read this kind of value.

    Raises:
        ValueNotAuthentic: it is encrypted.
    """
    if isinstance(serde, JsonPlusSerializer) and "+" in kind:
        raise ValueNotAuthentic(
            "A stored value is encrypted, and this saver has no key. Give it the EncryptedSerializer that the thread "
            "was stored with (serde=...)."
        )


def keyed(key: bytes | None, digest: bytes) -> bytes:
    """A digest that nobody without the key can make."""
    return digest if key is None else blake2b(digest, key=key, digest_size=16).digest()


def key_name(key: bytes | None, question: bytes) -> str:
    """A short name of what a question is about."""
    return b64encode(keyed(key, question)[:12], b"-_").decode()


def value_name(key: bytes | None, digest: bytes) -> str:
    """A short name of what was seen, by its digest."""
    return b64encode(keyed(key, digest)[:9], b"-_").decode()


# -- text and JSON -----------------------------------------------------------------------------------------------------


def sealed_text(serde: SerializerProtocol, text: str, column: str, *key: str | int) -> str:
    """A text for a column of text."""
    if not encrypts(serde):
        return text
    kind, data = at(serde, column, *key).dumps_typed(text)
    return f"encrypted:{kind}:{b64encode(data).decode()}"


def opened_text(serde: SerializerProtocol, text: str, column: str, *key: str | int) -> str:
    """The inverse of `sealed_text`.

    Without encryption, `HIDDEN` for what `sealed_text` made with it.

    Raises:
        ValueNotAuthentic: with encryption, for anything else than what `sealed_text` made for this place.
    """
    if not encrypts(serde):
        return readable_text(text)
    found = SEALED_TEXT.fullmatch(text)
    kind, data = found.groups() if found else ("", "")
    return str(at(serde, column, *key).loads_typed((kind, b64decode(data))))


def metadata_column(serde: SerializerProtocol, key: bytes | None, text: str, where: Where) -> str:
    """The metadata of a checkpoint for its column, from its JSON. `key` is that of keyed digests."""
    if key is None:
        return text
    metadata = json.loads(text, parse_float=Decimal)
    readable = {name: value for name, value in metadata.items() if name in _READABLE}
    sealed = sealed_text(serde, text, "metadata", *where)
    return json.dumps({**readable, **_matching(key, metadata), SEALED: sealed}, default=float, ensure_ascii=False)


def metadata_filter(key: bytes | None, text: str) -> str:
    """What the column has to contain for the metadata to contain what is wanted, both as JSON."""
    if key is None:
        return text
    wanted = json.loads(text, parse_float=Decimal)
    readable = {name: value for name, value in wanted.items() if name in _READABLE}
    return json.dumps({**readable, **_matching(key, wanted)}, default=float, ensure_ascii=False)


def stats_column(serde: SerializerProtocol, text: str, where: Where) -> str:
    """The record of a super-step for its column, from its JSON: the server sums the numbers."""
    if not encrypts(serde):
        return text
    readable = {name: value for name, value in json.loads(text).items() if name not in _SECRET_STATS}
    return json.dumps({**readable, SEALED: sealed_text(serde, text, "stats", *where)}, ensure_ascii=False)


def call_column(serde: SerializerProtocol, text: str, thread_id: str, ns: str, node: str) -> str:
    """The record of a call of a model for its column, from its JSON: the server sums up how deployments did."""
    if not encrypts(serde):
        return text
    record = json.loads(text)
    readable = {name: record[name] for name in _READABLE_OF_CALL if name in record}
    if isinstance(tried := record.get("tried"), list):
        readable["tried"] = [{n: t[n] for n in _READABLE_OF_TRIED if n in t} for t in tried if isinstance(t, dict)]
    sealed = sealed_text(serde, text, "call", thread_id, ns, node)
    return json.dumps({**readable, SEALED: sealed}, ensure_ascii=False)


def opened_json(serde: SerializerProtocol, held: dict[str, Any], column: str, *key: str) -> dict[str, Any]:
    """What a JSON column says, from what it holds; without a key, as much of it as can be read.

    Raises:
        ValueNotAuthentic: as `opened_text`.
    """
    if not encrypts(serde):
        return readable_json(held)
    opened: dict[str, Any] = json.loads(opened_text(serde, str(held.get(SEALED, "")), column, *key))
    return opened


def _matching(key: bytes, metadata: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {name: value for name, value in metadata.items() if name not in _READABLE}
    return {MATCH: _digested(key, hidden, ())} if hidden else {}


def _digested(key: bytes, value: Any, path: tuple[str, ...]) -> Any:
    """The same structure of objects and arrays, with a digest for each key and each value."""
    if isinstance(value, dict):
        return {_word(key, *path, name): _digested(key, each, (*path, name)) for name, each in value.items()}
    if isinstance(value, list):
        return [_digested(key, each, path) for each in value]
    return _word(key, *path, _scalar(value))


def _scalar(value: Any) -> list[str]:
    """Equal for what jsonb takes as equal: 1 is 1.0 there."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        sign, digits, exponent = Decimal(value).as_tuple()
        figures = "".join(map(str, digits)).lstrip("0")
        significant = figures.rstrip("0")
        power = int(exponent) + len(figures) - len(significant) if significant else 0
        return ["number", "-" if sign and significant else "", significant, str(power)]
    return [type(value).__name__, str(value)]


def _word(key: bytes, *parts: str | list[str]) -> str:
    return blake2b(json.dumps(parts).encode(), key=key, digest_size=12).hexdigest()
