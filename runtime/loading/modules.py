"""Import of user modules by name or by file, with errors that point at the line that failed."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
import sysconfig
import traceback
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from superstep.runtime.faults import GraphInvalid, GraphNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = [
    "closest",
    "full_name",
    "hidden",
    "import_file",
    "import_named",
    "is_importable",
    "last_own_frame",
    "short_name",
]

HERE = str(Path(__file__).parents[1]) + os.sep
PACKAGE = __name__.partition(".")[0]
ALIAS = "_graph_file_"
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def closest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean …?` for the known names that are close to a name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def import_named(name: str, *, known: Sequence[str], folders: Sequence[Path] = ()) -> ModuleType:
    """Import a module by its dotted name, as `full_name` completes it.

    Args:
        name: As the user wrote it.
        known: Names of `langgraph.json`, to suggest.
        folders: The project's folders, to say that something else hides a file in them.

    Raises:
        GraphNotFound: There is no such module.
        GraphInvalid: The module is there but fails to import.
    """
    full = full_name(name)
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        # The same error class means "no such module" and "the module imports something that is not installed".
        if error.name is None or not f"{full}.".startswith(f"{error.name}."):
            raise GraphInvalid(_failure(name, error)) from error
        siblings = [short_name(sibling) for sibling in _siblings(full)]
        raise GraphNotFound(
            f"There is no module {name}, and langgraph.json has no graph of that name."
            f"{closest(name, [*known, *siblings])}{hidden(full, folders)} The current folder is {Path.cwd()}."
        ) from error
    except (Exception, SystemExit) as error:
        raise GraphInvalid(_failure(name, error)) from error


def hidden(name: str, folders: Iterable[Path]) -> str:
    """Say that the project has a file for a module, where another module of that name comes before it; or nothing."""
    top, parts = name.partition(".")[0], name.split(".")
    spec = _spec(top)
    if spec is None:
        return ""
    for folder in folders:
        for path in (folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py")):
            if path.is_file() and not any(Path(place).is_relative_to(folder) for place in _places(spec)):
                return f" {top} is {' '.join(_places(spec)) or 'built in'}, which hides {path}: name that file instead."
    return ""


def _places(spec: ModuleSpec) -> list[str]:
    return [spec.origin] if spec.origin and spec.has_location else list(spec.submodule_search_locations or ())


def full_name(name: str) -> str:
    """Return the name to import a module by: `graphs.…` is a flow of this project, unless the caller has one like it.

    The caller's package `graphs`, or plain folder of that name, is looked into without importing it. In a checkout of
    this project the plain name leads to our files, which must not be loaded under two names.
    """
    top, _, rest = name.partition(".")
    if top != "graphs" or not rest:
        return name
    flow = rest.partition(".")[0]
    theirs, ours = _spec("graphs"), _spec(f"{PACKAGE}.graphs")
    if theirs is None or _file(theirs) == _file(ours) or (not _has(theirs, flow) and _has(ours, flow)):
        return f"{PACKAGE}.{name}"
    return name


def short_name(name: str) -> str:
    """Return the plain name of one of this project's flows, if that leads to it; any other name as it is."""
    short = name.removeprefix(f"{PACKAGE}.")
    return short if short != name and full_name(short) == name else name


def _has(package: ModuleSpec | None, module: str) -> bool:
    if package is None or package.submodule_search_locations is None:
        return False
    try:
        return PathFinder.find_spec(f"{package.name}.{module}", package.submodule_search_locations) is not None
    except KeyError:  # it is a folder without __init__.py, and would be found if its package was imported
        return True


def import_file(path: Path, *roots: Path, entry: str | None = None) -> ModuleType:
    """Import a module by its file, under its dotted name if the import path leads to that file.

    Args:
        path: A file that the import path does not lead to gets a module name of its own.
        roots: Folders on the import path.
        entry: Name in `langgraph.json`, for messages; `None` if the file itself was named.

    Returns:
        The module; the same object when called again.

    Raises:
        GraphNotFound: There is no such file.
        GraphInvalid: The file fails to import.
    """
    path = path.resolve()
    if not path.is_file():
        if entry is None:
            near = closest(path.name, (each.name for each in path.parent.glob("*.py")))
            raise GraphNotFound(f"There is no file {path}, and langgraph.json has no graph of that name.{near}")
        raise GraphNotFound(f"langgraph.json says that {entry!r} is in {path}, but there is no such file.")
    # The innermost root first: `src/agent/flow.py` is `agent.flow`, not `src.agent.flow`, to the modules beside it.
    for root in sorted((root.resolve() for root in roots), key=lambda root: -len(root.parts)):
        if path.is_relative_to(root):
            # The dotted name makes relative imports work, and the module the same one that others import.
            parts = path.relative_to(root).with_suffix("").parts
            dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if dotted and all(part.isidentifier() for part in parts) and _file(_spec(full_name(dotted))) == path:
                return import_named(dotted, known=())
    alias = f"{ALIAS}{path.stem}_{abs(hash(str(path))):x}"
    if alias in sys.modules:
        return sys.modules[alias]
    spec = importlib.util.spec_from_file_location(alias, path)
    if spec is None or spec.loader is None:
        raise GraphInvalid(f"{path} is no Python file.")
    module = sys.modules[alias] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[alias]
        raise GraphInvalid(_failure(str(path), error)) from error
    return module


def is_importable(module: ModuleType) -> bool:
    """Tell whether a module's name leads to it again, or its file alone does."""
    return not module.__name__.startswith(ALIAS)


def _spec(dotted: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(dotted)
    except Exception:  # noqa: BLE001 - a parent package that fails to import: then the file is imported by itself
        return None


def _file(spec: ModuleSpec | None) -> Path | None:
    return Path(spec.origin).resolve() if spec and spec.origin else None


def _siblings(name: str) -> list[str]:
    """Return the names of the modules beside a module."""
    parent, _, _ = name.rpartition(".")
    if not parent:
        return [module.name for module in pkgutil.iter_modules([str(Path.cwd())])]
    package = sys.modules.get(parent)
    if package is None:
        return [f"{other}.{name.rpartition('.')[2]}" for other in _siblings(parent)]
    return [f"{parent}.{module.name}" for module in pkgutil.iter_modules(getattr(package, "__path__", []))]


def _failure(name: str, error: BaseException) -> str:
    """Say that a module failed to import, with the line at fault: the last one that is not in a library."""
    if isinstance(error, SyntaxError):
        return f"The module {name} has a syntax error: {error.msg} ({error.filename}, line {error.lineno})."
    frame = last_own_frame(error)
    place = f"\n  {frame.filename}, line {frame.lineno}: {frame.line}" if frame else ""
    return f"The module {name} fails to import: {type(error).__name__}: {error}{place}"


def last_own_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost frame of an error outside of libraries: the line its author can change."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(("<frozen", HERE))]
    return next((frame for frame in reversed(frames) if not frame.filename.startswith(LIBRARIES)), None)
