"""What may stand in `runtime.toml`: the known keys, how each value is checked, and where in the file a wrong one is."""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import TYPE_CHECKING, Any, Literal

from runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FIELDS", "parsed", "read_settings_file"]

IGNORED_SECTIONS = frozenset({"models"})  # model routes are read by the layer that serves them


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


def _idle(value: Any) -> float | Literal["forever"]:
    if value == "forever":
        return "forever"
    try:
        seconds = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise ValueError('must be a number of seconds, 0 or more, or "forever"')
    return seconds


def _choice(*names: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError("must be one of " + ", ".join(f'"{name}"' for name in names))
        return str(value)

    return parse


FIELDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "database": {
        "url": _url,
        "schema": _text,
        "pool_min": _whole(0),
        "pool_max": _whole(1),
        "hold_idle": _idle,
    },
    "run": {"max_attempts": _whole(1), "on_stale_answer": _choice("ask", "accept")},
}


def read_settings_file(path: Path) -> dict[str, dict[str, Any]]:
    """Read and check a settings file.

    Args:
        path: The file.

    Returns:
        The values by section and key; every known section is there, maybe empty.

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
    found: dict[str, dict[str, Any]] = {section: {} for section in FIELDS}
    for section, table in document.items():
        if section in IGNORED_SECTIONS:
            continue
        if section not in FIELDS or not isinstance(table, dict):
            raise ConfigError(_wrong_section(path, text, section, table))
        for key, value in table.items():
            place = _place(path, text, section, key)
            if key not in FIELDS[section]:
                raise ConfigError(f"{place} {_unknown('key', key, FIELDS[section], within=section)}")
            found[section][key] = parsed(FIELDS[section][key], value, f"{place} [{section}] {key}")
    return found


def _wrong_section(path: Path, text: str, name: str, value: Any) -> str:
    place = _place(path, text, name) if isinstance(value, dict) else _place(path, text, None, name)
    if name in FIELDS:
        return f"{place} {name} must be a table: write [{name}]."
    home = next((section for section, keys in FIELDS.items() if name in keys), None)
    if home:
        return f"{place} {name} belongs under [{home}]."
    return f"{place} {_unknown('section', name, [*FIELDS, *IGNORED_SECTIONS])}"


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


def _place(path: Path, text: str, section: str | None, key: str | None = None) -> str:
    """Name file and line of a key. The line is looked up in the text, since `tomllib` does not keep it."""
    current: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[+\s*[\"']?([^\"'\].]+)", line)
        if header:
            current = header.group(1).strip()
            if key is None and current == section:
                return f"{path}, line {number}:"
        elif key is not None and current == section and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return f"{path}, line {number}:"
    return f"{path}:"
