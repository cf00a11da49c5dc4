"""Reading single values of a configuration: each reader checks one, and complains with its place, never with the value.

A value is not shown in any error, because it may be a key that was pasted into the wrong line. Pure: no file, no TOML.
"""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import regex

from superstep.runtime.faults import ConfigError

__all__ = [
    "Locator",
    "Reader",
    "Spot",
    "choice",
    "did_you_mean",
    "flag",
    "http_address",
    "import_path",
    "items",
    "number",
    "parameters",
    "pattern",
    "table",
    "text",
    "variable_name",
    "whole",
    "window",
]

Locator: TypeAlias = Callable[[Sequence["str | int"]], str]

_SECRET = re.compile(r"api[-_]?key|secret|passw(or)?d|credential|authorization|bearer|(auth|access)[-_]?token", re.I)
# Of headers and queries, what would be too general a word elsewhere (max_tokens), and values that give themselves away.
_SENT = re.compile(r"headers?$|query$|cookies?$", re.I)
_SENT_SECRET = re.compile(r"(^|[-_])(key|token|auth|cookie|sig|signature|pwd|pat|jwt)([-_]|$)", re.I)
_SECRET_VALUE = re.compile(r"\s*(bearer|basic)\s|(sk|gsk|xai)[-_]", re.I)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a value is: the keys and indices that lead to it, and what calls that by a name (file, line, key)."""

    path: tuple[str | int, ...]
    place: Locator

    def __truediv__(self, key: str | int) -> Spot:
        return Spot((*self.path, key), self.place)

    def __str__(self) -> str:
        return self.place(self.path)

    def wrong(self, complaint: str) -> ConfigError:
        """The error about this value: its place, and what it must be."""
        return ConfigError(f"{self} {complaint}")


Reader: TypeAlias = Callable[[Any, Spot], Any]


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The known name that was probably meant, else all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(sorted(known)) or 'none'}."


def table(value: Any, spot: Spot, readers: Mapping[str, Reader], *required: str) -> dict[str, Any]:
    """Read a table with a fixed set of keys.

    Raises:
        ConfigError: It is no table, a key is unknown or missing, or a value is wrong.
    """
    if not isinstance(value, Mapping):
        raise spot.wrong("must be a table.")
    for key in value:
        if key not in readers:
            raise _unknown(key, spot, list(readers))
    missing = next((key for key in required if key not in value), None)
    if missing is not None:
        raise spot.wrong(f"lacks the key {missing}. Add it.")
    return {key: readers[key](given, spot / key) for key, given in value.items()}


def _unknown(key: str, spot: Spot, known: list[str]) -> ConfigError:
    if _SECRET.search(key):
        return (spot / key).wrong(_NO_SECRETS)
    return (spot / key).wrong(f"is not a key that is known here. {did_you_mean(key, known)}")


_NO_SECRETS = (
    "must not be in a file: keys do not belong there. Put it into an environment variable and name that variable with "
    'api_key_env = "…".'
)


def text(value: Any, spot: Spot) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise spot.wrong("must be a text that is not empty.")
    return value


def flag(value: Any, spot: Spot) -> bool:
    """`true` or `false`."""
    if not isinstance(value, bool):
        raise spot.wrong("must be true or false.")
    return value


def whole(least: int) -> Reader:
    """A whole number of at least `least`."""

    def read(value: Any, spot: Spot) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise spot.wrong(f"must be a whole number, {least} or more.")
        return value

    return read


def number(*, zero: bool = False, most: float = math.inf, unit: str = "") -> Reader:
    """A finite number above 0, or from 0 on."""
    range_ = "0 or more" if zero else "greater than 0"
    range_ += f", {most:g} at most" if most < math.inf else ""

    def read(value: Any, spot: Spot) -> float:
        found = _finite(value)
        if found is None or found < 0 or (found == 0 and not zero) or found > most:
            raise spot.wrong(f"must be a number{f' of {unit}' if unit else ''}, {range_}.")
        return found

    return read


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def window(value: Any, spot: Spot) -> float:
    """Seconds: a number, or a text such as "90s", "15m", "1h", "1d", "2w"."""
    found = _finite(value)
    if isinstance(value, str):
        parts = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])", value.strip())
        found = float(parts[1]) * _SECONDS[parts[2]] if parts else None
    if found is None or found <= 0:
        raise spot.wrong('must be a number of seconds greater than 0, or a text such as "15m", "1h" or "1d".')
    return found


def choice(*names: str) -> Reader:
    """One of some words."""

    def read(value: Any, spot: Spot) -> str:
        if value in names:
            return str(value)
        close = difflib.get_close_matches(value, names, n=1) if isinstance(value, str) else []
        hint = f" Did you mean {close[0]}?" if close else ""
        raise spot.wrong("must be one of " + ", ".join(f'"{name}"' for name in names) + f".{hint}")

    return read


def items(read: Reader) -> Reader:
    """A list, whose elements `read` reads; returned as a tuple."""

    def read_all(value: Any, spot: Spot) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise spot.wrong("must be a list.")
        return tuple(read(each, spot / index) for index, each in enumerate(value))

    return read_all


def variable_name(value: Any, spot: Spot) -> str:
    """The name of an environment variable.

    In capital letters, as such names are: of what providers issue as keys, hardly anything passes for one.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", value):
        raise spot.wrong(
            "must be the name of an environment variable (capital letters, digits and _), not the key itself. "
            "If a key was written there, treat it as leaked: replace it at the provider."
        )
    return value


def http_address(value: Any, spot: Spot) -> str:
    """An http or https address without credentials, query and fragment."""
    try:
        parts = urlsplit(text(value, spot))
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise spot.wrong('must be an address such as "https://models.example.com/v1" or "http://localhost:8000/v1".')
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise spot.wrong(
            "must not hold a user name, a password, a query or a fragment. Put the key into an environment variable "
            'and name that variable with api_key_env = "…".'
        )
    return str(value)


def import_path(value: Any, spot: Spot) -> str:
    """`package.module:Class`."""
    module, _, name = text(value, spot).partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise spot.wrong('must be the import path of a class: "package.module:Class".')
    return str(value)


def pattern(value: Any, spot: Spot) -> str:
    """A regular expression that compiles and does not match the empty text, which is everywhere."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled = re.compile(text(value, spot))
            regex.compile(value)  # what records are searched with: it takes a time limit, and little less
    except (re.error, regex.error, OverflowError, RecursionError, Warning) as error:
        at = f" at position {error.pos}" if isinstance(error, re.error) and error.pos is not None else ""
        raise spot.wrong(f"is not a regular expression that Python understands{at}. Correct it.") from None
    if compiled.search(""):
        raise spot.wrong("matches the empty text, so it would black out everything. Correct it.")
    return str(value)


def parameters(value: Any, spot: Spot) -> dict[str, Any]:
    """Arguments of a chat model: any values, except keys and addresses with credentials, at any depth."""
    if not isinstance(value, Mapping):
        raise spot.wrong("must be a table.")
    _refuse_secrets(value, spot)
    return dict(value)


def _refuse_secrets(value: Any, spot: Spot, *, sent: bool = False) -> None:
    """`sent`: the value is of headers or a query."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if _SECRET.search(key) or (sent and _SENT_SECRET.search(key)):
                raise (spot / key).wrong(_NO_SECRETS)
            _refuse_secrets(inner, spot / key, sent=sent or bool(_SENT.search(key)))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _refuse_secrets(inner, spot / index, sent=sent)
    elif sent and isinstance(value, str) and _SECRET_VALUE.match(value):
        raise spot.wrong(_NO_SECRETS)
    elif isinstance(value, str) and re.search(r"://[^/\s]*@", value):
        raise spot.wrong("must not hold an address with a user name or a password.")
