"""Metadata of checkpoints as jsonb: one form for storing and for filtering, so that values find what they were part of.

JSON has fewer kinds of values than Python. Enums, dataclasses, models, named tuples and sets are stored as what they
consist of, times, UUIDs, numbers of `decimal` and paths as their text, bytes as hexadecimal digits. Of texts, NUL is
left out, as LangGraph does, and half a surrogate pair becomes a question mark. NaN and the infinities come back as
themselves. Pure.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import ipaddress
import json
import math
import uuid
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from langgraph.checkpoint.base import EXCLUDED_METADATA_KEYS, get_checkpoint_metadata

from superstep.runtime.faults import ValueNotSerializable

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import CheckpointMetadata

__all__ = ["filter_json", "json_text", "metadata_of", "restored", "stored_json"]

_FLOAT: Final = "superstep:float"
_DEEPEST: Final = 100
_MANY_BITS: Final = 2_000  # Python makes a text of any integer with fewer: `sys.set_int_max_str_digits` is 640 or more
_SCALARS: Final = frozenset({type(None), bool, str, int, float})
_KEYS: Final = (str, int, float, type(None))
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)
_AS_TEXT = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
    uuid.UUID,
    decimal.Decimal,
    PurePath,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)


def metadata_of(config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
    """What LangGraph has to say of a checkpoint, and what the caller's config adds to it.

    LangGraph takes texts and numbers from `metadata` and `configurable`. Of the first, everything that has a form in
    JSON is kept here; what has none is left out, as it is there.
    """
    full: dict[str, Any] = dict(get_checkpoint_metadata({**config, "metadata": {}}, metadata))
    for given, value in (config.get("metadata") or {}).items():
        if not isinstance(given, _KEYS):
            continue
        key = _key(given)
        if key in metadata or key in EXCLUDED_METADATA_KEYS or key.startswith("__"):
            continue
        try:
            full[key] = _form(value)
        except _NO_FORM:
            continue
    return full


def stored_json(metadata: Mapping[str, Any]) -> str:
    """Metadata as text for a jsonb column.

    Raises:
        ValueNotSerializable: a value has no form in JSON; the message names its key.
    """
    return _dumped(metadata, "the metadata of the checkpoint")


def filter_json(wanted: Mapping[str, Any] | None) -> str:
    """A filter as text that jsonb is compared with: it matches what `stored_json` makes of the same values.

    Raises:
        ValueNotSerializable: a value has no form in JSON; the message names its key.
    """
    return _dumped(wanted or {}, "the filter of metadata")


def restored(text: str) -> dict[str, Any]:
    """Metadata from the text of a jsonb column."""
    found: dict[str, Any] = json.loads(text, object_hook=_number if _FLOAT in text else None)
    return found


def json_text(text: str) -> str:
    """A text without what jsonb does not hold: NUL, and halves of surrogate pairs."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode(errors="replace").decode()


class _NoForm(TypeError):
    """JSON has nothing for it."""


_NO_FORM = (TypeError, ValueError, RecursionError)  # and what `model_dump` and `str` of a user's class raise


def _dumped(values: Mapping[str, Any], what: str) -> str:
    plain = {}
    for key, value in values.items():
        try:
            plain[_key(key)] = _form(value)
        except _NO_FORM as e:
            raise ValueNotSerializable(
                f"{what} has under {key!r} what JSON has no form for ({e}). Use texts, numbers, lists and dictionaries "
                f"there."
            ) from e
    return _ENCODER.encode(plain)


def _form(value: Any, depth: int = 0) -> Any:
    """What JSON has for a value. `json.dumps` takes it."""
    kind = type(value)
    if kind is str:
        return json_text(value)
    if kind in _SCALARS:
        return _scalar(value)
    if depth > _DEEPEST:
        raise _NoForm(f"more than {_DEEPEST} levels")
    if isinstance(value, Enum):
        return _form(value.value, depth)
    if isinstance(value, str | int | float):
        return _scalar(value)
    if isinstance(value, Mapping):
        return {_key(key): _form(each, depth + 1) for key, each in value.items()}
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, _AS_TEXT):
        return json_text(str(value))
    if (fields := _fields(value)) is not None:
        return _form(fields, depth)
    if isinstance(value, list | tuple):
        return [_form(each, depth + 1) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((_form(each, depth + 1) for each in value), key=json.dumps)
    raise _NoForm(type(value).__name__)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return json_text(str(value))
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(float(value))}
    if isinstance(value, int) and value.bit_length() > _MANY_BITS:
        str(int(value))  # raises: a number for a text has so many digits and no more
    return value


def _fields(value: Any) -> Any:
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for name in ("model_dump", "_asdict"):
        method = getattr(value, name, None)
        if callable(method):
            return method()
    return None


def _key(key: Any) -> str:
    if isinstance(key, str):
        return json_text(key if type(key) is str else str(key))
    form = _form(key)
    if isinstance(form, dict | list):
        raise _NoForm(f"a key that is a {type(key).__name__}")
    return form if isinstance(form, str) else json.dumps(form)


def _number(found: dict[str, Any]) -> Any:
    return float(found[_FLOAT]) if found.keys() == {_FLOAT} else found
