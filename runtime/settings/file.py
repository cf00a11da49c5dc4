"""What may stand in `runtime.toml`: the known keys, how each value is checked, and where in the file a wrong one is."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from superstep.runtime.faults import ConfigError
from superstep.runtime.settings.lines import dotted, lines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["FIELDS", "RAW_SECTIONS", "SettingsFile", "parsed", "read_settings_file"]

# Read by the layers that they configure, when a command needs those: a mistake in them must not stop `runtime threads`.
RAW_SECTIONS = ("models", "budgets", "recording", "embeddings", "retention", "derived")


_LEAST_LEASE = 0.2


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value


def _url(value: Any) -> str:
    if not isinstance(value, str) or not re.match(r"postgres(ql)?://", value):
        raise ValueError("must be an address that starts with postgresql://")
    return value


def _whole(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"must be a whole number, {least} or more")
        return value

    return parse


def _seconds(value: Any) -> float:
    try:
        seconds = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return seconds


def _lease(value: Any) -> float:
    seconds = _seconds(value)
    if seconds < _LEAST_LEASE:
        raise ValueError(f"must be a number of seconds, {_LEAST_LEASE:g} or more")
    return seconds


def _idle(value: Any) -> float | Literal["forever"]:
    if value == "forever":
        return "forever"
    try:
        return _seconds(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "forever"') from None


def _choice(*names: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError("must be one of " + ", ".join(f'"{name}"' for name in names))
        return str(value)

    return parse


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return bool(value == "true")


FIELDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "database": {
        "url": _url,
        "schema": _text,
        "pool_min": _whole(0),
        "pool_max": _whole(1),
        "hold_idle": _idle,
        "hold_max": _seconds,
    },
    "run": {
        "max_attempts": _whole(1),
        "on_stale_answer": _choice("ask", "accept"),
        "multitask_strategy": _choice("reject", "enqueue", "interrupt", "rollback"),
    },
    "worker": {"concurrency": _whole(1), "lease": _lease, "grace": _seconds, "tries": _whole(1)},
    "telemetry": {
        "trace": _truth,
        "metrics": _truth,
        "trace_content": _truth,
        "log_format": _choice("text", "json"),
        "log_level": _choice("debug", "info", "warning", "error"),
    },
}


@dataclass(slots=True)
class SettingsFile:
    """A settings file that was read.

    Attributes:
        found: the checked values by section and key; every known section is there, maybe empty.
        raw: the sections that others check, as they are.
    """

    path: Path
    text: str = field(repr=False)
    found: dict[str, dict[str, Any]] = field(default_factory=lambda: {section: {} for section in FIELDS}, repr=False)
    raw: dict[str, Any] = field(default_factory=dict, repr=False)
    _lines: dict[tuple[str | int, ...], int] | None = field(default=None, repr=False)

    def line(self, path: Sequence[str | int]) -> str:
        """Name the file and the line of a value, or of the innermost table around it that has a line."""
        if self._lines is None:
            self._lines = lines_of(self.text)
        known = (self._lines.get(tuple(path[:length])) for length in range(len(path), 0, -1))
        number = next((line for line in known if line is not None), None)
        return f"{self.path}, line {number}:" if number is not None else f"{self.path}:"

    def place(self, path: Sequence[str | int]) -> str:
        """Name the file, the line and the key of a value: "runtime.toml, line 3: models.fast.deployments[0].rpm"."""
        return f"{self.line(path)} {dotted(path)}"


def read_settings_file(path: Path) -> SettingsFile:
    """Read a settings file, and check what belongs to this layer.

    Raises:
        ConfigError: The file is not readable TOML, has an unknown key, or a value of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}. It must be a UTF-8 text file.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}. Correct that line.") from error
    file = SettingsFile(path, text)
    for section, table in document.items():
        if section in RAW_SECTIONS:
            file.raw[section] = table
            continue
        if section not in FIELDS or not isinstance(table, dict):
            raise ConfigError(_wrong_section(file, section))
        for key, value in table.items():
            place = file.line((section, key))
            if key not in FIELDS[section]:
                raise ConfigError(f"{place} {_unknown('key', key, FIELDS[section], within=section)}")
            file.found[section][key] = parsed(FIELDS[section][key], value, f"{place} [{section}] {key}")
    return file


def _wrong_section(file: SettingsFile, name: str) -> str:
    place = file.line((name,))
    if name in FIELDS:
        return f"{place} {name} must be a table: write [{name}]."
    home = next((section for section, keys in FIELDS.items() if name in keys), None)
    if home:
        return f"{place} {name} belongs under [{home}]."
    return f"{place} {_unknown('section', name, [*FIELDS, *RAW_SECTIONS])}"


def parsed(parse: Callable[[Any], Any], value: Any, place: str) -> Any:
    """Check one value; the error names its place and what it must be, never the value itself."""
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(f"{place} {error}.") from None


def _unknown(kind: str, name: str, known: Any, *, within: str | None = None) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"Did you mean {close[0]}?" if close else "Known: " + ", ".join(sorted(known)) + "."
    return f"unknown {kind} {name!r}{f' in [{within}]' if within else ''}. {hint}"
