"""`langgraph.json`: names of graphs, folders to import from, and variables of the project.

The format is LangGraph's own. Used here are `graphs` (name to `./file.py:attribute` or `package.module:attribute`),
`dependencies` (local folders go on the import path) and `env` (a file of `NAME=value` lines, or a table).
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from superstep.runtime.faults import ConfigError

__all__ = ["Project", "read_project"]

FILE = "langgraph.json"


@dataclass(frozen=True, slots=True)
class Project:
    """What `langgraph.json` says.

    Attributes:
        folder: the folder the paths in it are relative to.
        graphs: import targets by graph name.
        dependencies: folders to import from.
        env: variables to set unless they are set already.
    """

    folder: Path
    graphs: dict[str, str] = field(default_factory=dict)
    dependencies: tuple[Path, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    def activate(self) -> None:
        """Put the folder and its dependencies on the import path, and set the variables. Idempotent."""
        for folder in (*reversed(self.dependencies), self.folder):
            place = str(folder.resolve())
            if place not in sys.path:
                sys.path.insert(0, place)
        for name, value in self.env.items():
            os.environ.setdefault(name, value)


def read_project(folder: Path | None = None) -> Project:
    """Read `langgraph.json` of a folder.

    Args:
        folder: The folder, by default the current one.

    Returns:
        What the file says; a project without graphs if there is no file.

    Raises:
        ConfigError: The file is broken. The message names the entry.
    """
    folder = folder or Path.cwd()
    path = folder / FILE
    if not path.is_file():
        return Project(folder)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}. It must be a UTF-8 text file.") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}.") from error
    if not isinstance(document, dict):
        raise ConfigError(f'{path} must hold a JSON object, such as {{"graphs": {{"agent": "./agent.py:graph"}}}}.')
    return Project(
        folder,
        _graphs(path, document.get("graphs", {})),
        _dependencies(path, document),
        _env(path, document.get("env")),
    )


def _graphs(path: Path, table: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, entry in table.items() if isinstance(table, dict) else [("", None)]:
        target = entry.get("path") if isinstance(entry, dict) else entry
        if not isinstance(target, str) or ":" not in target:
            raise ConfigError(f'{path}: the entry {name!r} of "graphs" must be "./file.py:attribute".')
        found[name] = target
    return found


def _dependencies(path: Path, document: dict[str, Any]) -> tuple[Path, ...]:
    """Return the local folders; names of packages are for the tools that build the environment."""
    entries = document.get("dependencies", [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ConfigError(f'{path}: "dependencies" must be a list of texts.')
    return tuple(path.parent / entry for entry in entries if (path.parent / entry).is_dir())


def _env(path: Path, entry: Any) -> dict[str, str]:
    if entry is None or entry == "":
        return {}
    if isinstance(entry, dict):
        return {str(name): str(value) for name, value in entry.items()}
    if not isinstance(entry, str):
        raise ConfigError(f'{path}: "env" must be the name of a file or a table of variables.')
    file = path.parent / entry
    if not file.is_file():
        raise ConfigError(f'{path}: the "env" file {file} does not exist. Create it, or remove the entry.')
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        match = re.match(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$", line)
        if match:
            found[match[1]] = _unquoted(match[2])
    return found


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return re.split(r"\s#", value, maxsplit=1)[0].rstrip()
