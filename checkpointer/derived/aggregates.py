"""What is declared: an aggregate over events. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.derived.paths import canonical, parts_of
from superstep.checkpointer.derived.windows import length_of, written
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

__all__ = ["FUNCTIONS", "Aggregate"]

FUNCTIONS = ("count", "sum", "avg", "distinct", "last", "top")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_VALUELESS = frozenset({"count"})
_KEYS = ("events", "where", "key", "compute", "value", "window", "step", "lateness", "top")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A declared aggregate. Make it with `of`, which checks it.

    Attributes:
        name: by which it is read.
        events: types of the events that it is over.
        key: paths into the payload, whose values are the key.
        compute: functions, see `FUNCTIONS`. All of them are exact.
        value: path to what they are computed of; `None` if they only count.
        window: length of the windows; `None` is all time.
        step: by how much they slide; as long as the window for tumbling ones.
        lateness: how far behind its partition's watermark an event may come and still be counted; `None` is any.
        top: how many values `top` gives at most.
        where: paths with the canonical texts of the values that may stand there; other events give it nothing.
    """

    name: str
    events: tuple[str, ...]
    key: tuple[str, ...]
    compute: tuple[str, ...]
    value: str | None = None
    window: timedelta | None = None
    step: timedelta | None = None
    lateness: timedelta | None = None
    top: int = 10
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        *,
        events: str | Sequence[str],
        key: str | Sequence[str],
        compute: str | Sequence[str],
        value: str | None = None,
        window: str | None = None,
        step: str | None = None,
        lateness: str | None = None,
        top: int = 10,
        where: Mapping[str, Any] | None = None,
    ) -> Aggregate:
        """Declare an aggregate; see the attributes. Lengths of time are texts such as "24h".

        `where` has, by path, a value or a list of values: `{"op": ["c", "r"]}`.

        Raises:
            ConfigError: it cannot be meant so.
        """
        given: dict[str, Any] = {"events": events, "key": key, "compute": compute, "value": value}
        given |= {"window": window, "step": step, "lateness": lateness, "top": top, "where": where}
        return cls.parsed(name, {k: v for k, v in given.items() if v is not None}, lambda k: f"{name}: {k}")

    @classmethod
    def parsed(cls, name: str, given: Mapping[str, Any], place: Callable[[str], str]) -> Aggregate:
        """An aggregate of a table of TOML or JSON.

        Args:
            name: of the aggregate.
            given: its keys.
            place: names where one of them stands.

        Raises:
            ConfigError: something in it is wrong; named with its place.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"An aggregate's name is made of letters, digits, - and _, and is at most 63 long: {name!r}."
            )
        if unknown := sorted(set(given) - set(_KEYS)):
            raise ConfigError(f"{place(unknown[0])} is unknown. Known: {', '.join(_KEYS)}.")
        read = _Reader(given, place)
        found = cls(
            name,
            tuple(sorted(read.texts("events"))),
            read.texts("key"),
            read.texts("compute"),
            read.text("value"),
            read.length("window", least=1),
            read.length("step", least=1),
            read.length("lateness", least=0),
            read.number("top", 10),
            read.conditions("where"),
        )
        found._check(place)
        return found if found.step is not None else replace(found, step=found.window)

    def _check(self, place: Callable[[str], str]) -> None:
        paths = [(path, "key") for path in self.key] + [(path, "where") for path, _ in self.where]
        for path, key in [*paths, *([(self.value, "value")] if self.value else [])]:
            try:
                parts_of(path)
            except ValueError as error:
                raise ConfigError(f"{place(key)} {error}.") from None
        if unknown := [each for each in self.compute if each not in FUNCTIONS]:
            known = ", ".join(FUNCTIONS)
            raise ConfigError(f"{place('compute')}: there is no function {unknown[0]!r}. Known: {known}.")
        if self.value is None and set(self.compute) - _VALUELESS:
            raise ConfigError(f"{place('value')} is missing: the path to what {self.compute[-1]} is computed of.")
        if self.step is not None and self.window is None:
            raise ConfigError(f"{place('step')} needs a window that slides by it.")
        if self.step is not None and self.window is not None and self.window % self.step:
            raise ConfigError(f"{place('step')} must divide the window, {written(self.window)}, without a remainder.")
        if self.lateness is not None and self.window is None:
            raise ConfigError(f"{place('lateness')} needs a window: without one no event is late.")

    @property
    def spec(self) -> dict[str, Any]:
        """As JSON holds it, and `parsed` reads it."""
        lengths = {"window": self.window, "step": self.step, "lateness": self.lateness}
        where = {path: [json.loads(each) for each in values] for path, values in self.where}
        return {
            "events": list(self.events),
            **({"where": where} if where else {}),
            "key": list(self.key),
            "compute": list(self.compute),
            **({"value": self.value} if self.value is not None else {}),
            **{name: written(length) for name, length in lengths.items() if length is not None},
            **({"top": self.top} if "top" in self.compute else {}),
        }

    @property
    def fingerprint(self) -> str:
        """Equal for declarations that mean the same. What only says how much of it is read, `top`, is no part of it."""
        meant = {key: value for key, value in self.spec.items() if key != "top"}
        meant["compute"] = sorted({_kept(each) for each in self.compute})
        return sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def has_numbers(self) -> bool:
        """Whether counts and sums are kept."""
        return not {"count", "sum", "avg"}.isdisjoint(self.compute)

    @property
    def has_members(self) -> bool:
        """Whether single values are counted."""
        return not {"distinct", "top"}.isdisjoint(self.compute)

    @property
    def sums(self) -> bool:
        """Whether the value has to be a number."""
        return not {"sum", "avg"}.isdisjoint(self.compute)


def _kept(function: str) -> str:
    """What is kept for a function: two that keep the same are maintained alike."""
    return {"avg": "sum", "top": "distinct"}.get(function, function)


class _Reader:
    """The keys of one declaration."""

    def __init__(self, given: Mapping[str, Any], place: Callable[[str], str]) -> None:
        self._given, self._place = given, place

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._given.get(key)
        texts = [value] if isinstance(value, str) else value
        if (
            not isinstance(texts, list | tuple)
            or not texts
            or not all(each and isinstance(each, str) for each in texts)
        ):
            raise ConfigError(f"{self._place(key)} must be a text, or a list of texts that is not empty.")
        if len(set(texts)) < len(texts):
            raise ConfigError(f"{self._place(key)} has the same text twice.")
        return tuple(texts)

    def text(self, key: str) -> str | None:
        value = self._given.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            raise ConfigError(f"{self._place(key)} must be a text that is not empty.")
        return value

    def conditions(self, key: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        value = self._given.get(key, {})
        if not isinstance(value, Mapping):
            raise ConfigError(f'{self._place(key)} must be a table of paths and values, such as {{op = ["c", "r"]}}.')
        found = []
        for path, given in sorted(value.items()):
            values = given if isinstance(given, list | tuple) else [given]
            if not values or not all(isinstance(each, str | int | float) for each in values):
                raise ConfigError(
                    f"{self._place(key)}: {path} must be a text, number or truth value, or a list of them."
                )
            found.append((path, tuple(sorted({canonical(each) for each in values}))))
        return tuple(found)

    def length(self, key: str, *, least: int) -> timedelta | None:
        value = self._given.get(key)
        if value is None:
            return None
        try:
            length = length_of(value if isinstance(value, str) else "")
        except ValueError as error:
            raise ConfigError(f"{self._place(key)} {error}.") from None
        if not length and least:
            raise ConfigError(f"{self._place(key)} must be longer than nothing.")
        return length

    def number(self, key: str, default: int) -> int:
        value = self._given.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
            raise ConfigError(f"{self._place(key)} must be a whole number from 1 to 1000.")
        return value
