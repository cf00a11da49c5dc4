"""Which line of a TOML file a value is on. `tomllib` does not keep it."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["dotted", "lines_of"]

KeyPath = tuple["str | int", ...]


def lines_of(text: str) -> dict[KeyPath, int]:
    """Return the line of every table, key and element of a valid TOML document, by the keys that lead to it.

    A table that has several headers is on the line of its first. What a multi-line value holds is on the line that the
    value begins on.
    """
    found: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}  # elements so far of each array of tables
    here: KeyPath = ()
    for number, statement in _statements(text):
        keys, value = _leaf(tomllib.loads(statement))
        if statement.lstrip().startswith("["):
            path = _inside(keys, counts)
            if isinstance(value, list):
                counts[path] = counts.get(path, -1) + 1
                found.setdefault(path, number)
                path = (*path, counts[path])
            here = path
        else:
            path = (*here, *keys)
            for below in _below(value):
                found.setdefault((*path, *below), number)
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], number)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each header and each assignment with the number of its first line: the least run of lines that is TOML."""
    began, run = 0, ""
    for number, line in enumerate(text.split("\n"), start=1):
        began = began if run else number
        run += f"{line}\n"
        try:
            document = tomllib.loads(run)
        except tomllib.TOMLDecodeError:
            continue  # the value goes on in the next line
        if document:
            yield began, run
        run = ""


def _leaf(document: dict[str, Any]) -> tuple[KeyPath, Any]:
    """The keys that a statement names, and what it gives them. An inline table of one key counts as a dotted key."""
    keys: list[str | int] = []
    value: Any = document
    while isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        keys.append(key)
    return tuple(keys), value


def _inside(keys: KeyPath, counts: dict[KeyPath, int]) -> KeyPath:
    """The path that a header means: a key of an array of tables stands for the latest element of it."""
    path: KeyPath = ()
    for index, key in enumerate(keys):
        path = (*path, key)
        if path in counts and index < len(keys) - 1:
            path = (*path, counts[path])
    return path


def _below(value: Any) -> Iterator[KeyPath]:
    """The paths of everything inside a value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (key,)
        for path in _below(inner):
            yield (key, *path)


def dotted(path: Sequence[str | int]) -> str:
    """Return a path as TOML writes it, with indices in brackets: `models."a b".deployments[0].rpm`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key))
    return text
