"""Values of items as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import MemoryInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["content_key", "json_of", "value_of", "value_text", "vector_text"]


def value_text(value: object) -> str:
    """The text that a value is stored as. What JSON has no own kind for comes back as its like: tuples as lists.

    Raises:
        MemoryInvalid: it is no mapping, or something in it has no form in JSON.
    """
    if not isinstance(value, Mapping):
        raise MemoryInvalid(f"The value of an item is a mapping, not a {type(value).__name__}.")
    return json_of(dict(value), "The value of an item")


def json_of(value: object, what: str) -> str:
    """A value as JSON that PostgreSQL can hold.

    Raises:
        MemoryInvalid: it has no such form.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as e:
        raise MemoryInvalid(f"{what} has no form in JSON: {e}.") from e
    if "\\u0000" in text and _has_nul(value):
        raise MemoryInvalid(f"{what} has a text with a NUL in it, which PostgreSQL does not hold.")
    return text


def value_of(text: str) -> dict[str, Any]:
    """The value behind a text."""
    found: dict[str, Any] = json.loads(text)
    return found


def content_key(value_as_text: str) -> str:
    """A key that is the same for the same value, whatever the order of its fields."""
    canonical = json.dumps(json.loads(value_as_text), sort_keys=True, ensure_ascii=False)
    return blake2b(canonical.encode(), digest_size=16).hexdigest()


def vector_text(numbers: Sequence[float]) -> str:
    """A vector as text, as pgvector reads it."""
    return "[" + ",".join(map(repr, numbers)) + "]"


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Mapping):
        return any(map(_has_nul, value)) or any(map(_has_nul, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_nul, value))
