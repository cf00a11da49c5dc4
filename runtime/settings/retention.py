"""`[retention]`: how long threads are kept, by graph."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from superstep.checkpointer import Retention, Rule

__all__ = ["asked_for", "duration", "retention"]

_DURATION = re.compile(r"(\d+)\s*([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FOREVER = "forever"
_KEYS = ("ttl", "keep_latest", "keep_interrupted")


def duration(text: str) -> timedelta:
    """A length of time: a whole number and one of s, m, h, d, w.

    Raises:
        ValueError: it is none, or it is nothing.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    try:
        length = timedelta(seconds=seconds)
    except OverflowError:
        length = timedelta(0)
    if not length:
        raise ValueError('must be a length of time greater than nothing, such as "30d" (units: s, m, h, d, w)')
    return length


def retention(given: Any, place: Callable[[Sequence[str | int]], str]) -> Retention:
    """The rules of a settings file.

    Args:
        given: the section as it is in the file.
        place: names where in the file something is, by the keys that lead to it.

    Raises:
        ConfigError: something in it is wrong; named with its place.
    """
    from superstep.checkpointer import Retention, Rule

    table = _table(given, ["retention"], place)
    graphs = _table(table.get("graphs", {}), ["retention", "graphs"], place)
    rule = _rule({key: value for key, value in table.items() if key != "graphs"}, Rule(), ["retention"], place)
    return Retention(
        rule,
        {
            name: _rule(_table(each, ["retention", "graphs", name], place), rule, ["retention", "graphs", name], place)
            for name, each in graphs.items()
        },
    )


def asked_for(rules: Retention, *, ttl: timedelta | None, keep_latest: bool, also_interrupted: bool) -> Retention:
    """The rules, with what somebody asks for this time. A length of time is for all graphs, instead of the rules."""
    from superstep.checkpointer import Retention, Rule

    if ttl is not None:
        return Retention(Rule(ttl, keep_latest, not also_interrupted))

    def changed(rule: Rule) -> Rule:
        return replace(
            rule,
            keep_latest=rule.keep_latest or keep_latest,
            keep_interrupted=rule.keep_interrupted and not also_interrupted,
        )

    return Retention(changed(rules.rule), {name: changed(rule) for name, rule in rules.graphs.items()})


def _table(given: Any, path: list[str], place: Callable[[Sequence[str | int]], str]) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise ConfigError(f"{place(path)} must be a table: write [{'.'.join(path)}].")
    return given


def _rule(
    given: Mapping[str, Any], default: Rule, path: list[str], place: Callable[[Sequence[str | int]], str]
) -> Rule:
    """A rule; what it does not say is as in `default`."""
    said: dict[str, Any] = {}
    for key, value in given.items():
        where = place([*path, key])
        if key not in _KEYS:
            raise ConfigError(
                f"{where} is unknown. Known: {', '.join((*_KEYS, 'graphs') if len(path) == 1 else _KEYS)}."
            )
        if key != "ttl":
            if not isinstance(value, bool):
                raise ConfigError(f"{where} must be true or false.")
            said[key] = value
        elif value == _FOREVER:
            said[key] = None
        else:
            try:
                said[key] = duration(value if isinstance(value, str) else "")
            except ValueError as error:
                raise ConfigError(f'{where} {error}, or "{_FOREVER}".') from None
    return replace(default, **said)
