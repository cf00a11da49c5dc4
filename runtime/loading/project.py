"""`langgraph.json`: names of graphs, folders to import from, and variables of the project.

The format is LangGraph's own. Used here are `graphs` (name to `./file.py:attribute` or `package.module:attribute`),
`dependencies` (local folders go on the import path) and `env` (a file of `NAME=value` lines, or a table). Of what
cannot be had here, `checkpointer` is warned of, and a run is refused for `store`.

The project's folders go on the import path only when a graph is loaded, and behind everything else: a file that is
called like a module of the standard library or of an installed package is not imported in its stead.
"""

from __future__ import annotations

import json
import os
import re
import shlex
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
        env_warnings: what is amiss with the variables, and stops nothing.
        import_warnings: the same of what modules of the project are imported from.
        run_warnings: what a run will not use.
        refused: what a run is refused for, or `None`.
    """

    folder: Path
    graphs: dict[str, str] = field(default_factory=dict)
    dependencies: tuple[Path, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    env_warnings: tuple[str, ...] = ()
    import_warnings: tuple[str, ...] = ()
    run_warnings: tuple[str, ...] = ()
    refused: str | None = None

    def warnings(self, *, imports: bool, runs: bool) -> tuple[str, ...]:
        """What concerns a command: one that imports modules of the project, or runs a graph of it, or does neither."""
        of_imports = self.import_warnings if imports or runs else ()
        return (*of_imports, *self.env_warnings, *(self.run_warnings if runs else ()))

    @property
    def import_folders(self) -> tuple[Path, ...]:
        """The folders to import from, in order: the project's, its dependencies, and the `src` of each."""
        found: list[Path] = []
        for folder in (self.folder.resolve(), *(each.resolve() for each in self.dependencies)):
            # A folder `src` of packages is no package itself.
            source = folder / "src"
            inside = [source] if source.is_dir() and not (source / "__init__.py").is_file() else []
            found += [each for each in (folder, *inside) if each not in found]
        return tuple(found)

    def set_variables(self) -> None:
        """Set the variables that are not set. Idempotent."""
        for name, value in self.env.items():
            os.environ.setdefault(name, value)

    def make_importable(self) -> None:
        """Put the project's folders at the end of the import path. Idempotent."""
        for place in map(str, self.import_folders):
            if place not in sys.path:
                sys.path.append(place)


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
        document = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}.") from error
    if not isinstance(document, dict):
        raise ConfigError(f'{path} must hold a JSON object, such as {{"graphs": {{"agent": "./agent.py:graph"}}}}.')
    graphs = _graphs(path, document.get("graphs", {}))
    dependencies, import_warnings = _dependencies(path, document)
    env, env_warnings = _env(path, document.get("env"))
    return Project(
        folder,
        graphs,
        dependencies,
        env,
        env_warnings,
        import_warnings,
        _checkpointer(path, document.get("checkpointer")),
        _refused(path, document.get("store")),
    )


def _graphs(path: Path, table: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, entry in table.items() if isinstance(table, dict) else [("", None)]:
        target = entry.get("path") if isinstance(entry, dict) else entry
        if not isinstance(target, str) or ":" not in target:
            raise ConfigError(f'{path}: the entry {name!r} of "graphs" must be "./file.py:attribute".')
        found[name] = target
    return found


def _dependencies(path: Path, document: dict[str, Any]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return the local folders, and which packages are not there: they cannot be installed here."""
    entries = document.get("dependencies", [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ConfigError(f'{path}: "dependencies" must be a list of texts.')
    folders = [entry for entry in entries if entry.startswith((".", "/")) or (path.parent / entry).is_dir()]
    for entry in folders:
        if not (path.parent / entry).is_dir():
            raise ConfigError(f'{path}: "dependencies" names {entry!r}, which is no folder. Correct or remove it.')
    missing = [entry for entry in entries if entry not in folders and not _is_installed(entry)]
    warning = (
        f'{path}: "dependencies" names {", ".join(missing)}, not installed here. If the graph needs it: '
        f"pip install {shlex.join(missing)}"
    )
    return tuple(path.parent / entry for entry in folders), (warning,) if missing else ()


def _checkpointer(path: Path, entry: Any) -> tuple[str, ...]:
    if not entry:
        return ()
    return (
        f'{path}: "checkpointer" is for the Agent Server and is not used here: threads are kept in the database of '
        "--db, DATABASE_URL or runtime.toml.",
    )


def _refused(path: Path, store: Any) -> str | None:
    if not store:
        return None
    return (
        f'{path}: "store" asks for a store that these commands do not have, and nodes would find none. Compile the '
        "graph with a store of its own (`compile(store=…)`), and remove the entry."
    )


def _is_installed(requirement: str) -> bool:
    """Tell whether a package is there, in any version; what is no name of a package (an address) counts as there."""
    from importlib import metadata

    name = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*(?![^\s\[<>=!~;@(])", requirement.strip())
    if name is None:
        return True
    try:
        metadata.distribution(name[0])
    except metadata.PackageNotFoundError:
        return False
    return True


def _env(path: Path, entry: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables, and what is amiss."""
    if entry is None or entry == "":
        return {}, ()
    if isinstance(entry, dict):
        return {str(name): str(value) for name, value in entry.items()}, ()
    if not isinstance(entry, str):
        raise ConfigError(f'{path}: "env" must be the name of a file or a table of variables.')
    file = path.parent / entry
    if not file.is_file():
        # Such files hold keys and are not checked in: a fresh checkout has none, and may need none.
        return {}, (f'{path}: the "env" file {file} does not exist, so no variables are set from it.',)
    found: dict[str, str] = {}
    for line in _text(file).splitlines():
        match = re.match(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$", line)
        if match:
            found[match[1]] = _unquoted(match[2])
    return found, ()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {type(error).__name__}. It must be a UTF-8 text file.") from error


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return re.split(r"\s#", value, maxsplit=1)[0].rstrip()
