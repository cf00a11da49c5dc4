"""Parts of values, by which reducers compare them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["described", "frozen", "part"]


def described(what: object) -> str:
    """A key or a function in words that are the same in every process."""
    if what is None:
        return "themselves"
    return repr(what) if isinstance(what, str) else str(getattr(what, "__qualname__", type(what).__name__))


def part(item: Any, name: str) -> Any:
    """A field of an item, which is a dict or an object."""
    return item[name] if isinstance(item, dict) else getattr(item, name)


def frozen(value: Any) -> Hashable:
    """Equal for the same values (see `same`), and only for them."""
    if isinstance(value, dict):
        return "dict", frozenset((frozen(key), frozen(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return "list", tuple(map(frozen, value))
    if isinstance(value, bool):
        return "bool", value
    hash(value)
    hashed: Hashable = value
    return hashed
