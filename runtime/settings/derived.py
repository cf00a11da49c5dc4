"""`[derived]`: aggregates over ingested events, and types of events that are not kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from superstep.checkpointer import Aggregate

__all__ = ["derived"]

_IGNORE = "ignore"


def derived(given: Any, place: Callable[[Sequence[str | int]], str]) -> tuple[list[Aggregate], frozenset[str]]:
    """The declarations of a settings file, and the types of events to ignore.

    Args:
        given: the section as it is in the file.
        place: names where in the file something is, by the keys that lead to it.

    Raises:
        ConfigError: something in it is wrong; named with its place.
    """
    from superstep.checkpointer import Aggregate

    if not isinstance(given, dict):
        raise ConfigError(f"{place(['derived'])} must be a table: write [derived.NAME].")
    ignore = given.get(_IGNORE, [])
    if not isinstance(ignore, list) or not all(isinstance(each, str) for each in ignore):
        raise ConfigError(f"{place(['derived', _IGNORE])} must be a list of types of events.")
    found = []
    for name, table in given.items():
        if name == _IGNORE:
            continue
        if not isinstance(table, dict):
            raise ConfigError(f"{place(['derived', name])} must be a table: write [derived.{name}].")
        found.append(Aggregate.parsed(name, table, lambda key, name=name: place(["derived", name, key])))  # type: ignore[misc]
    return found, frozenset(ignore)
