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
from pathlib import Path
from typing import TYPE_CHECKING

from superstep.runtime.faults import GraphInvalid, GraphNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

__all__ = ["closest", "import_file", "import_named", "last_own_frame"]

HERE = str(Path(__file__).parents[1]) + os.sep
PACKAGE = __name__.partition(".")[0]
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def closest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean …?` for the known names that are close to a name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def import_named(name: str, *, known: Sequence[str]) -> ModuleType:
    """Import a module by its dotted name.

    Args:
        name: The module.
        known: Names of `langgraph.json`, to suggest.

    Returns:
        The module.

    Raises:
        GraphNotFound: There is no such module.
        GraphInvalid: The module is there but fails to import.
    """
    try:
        return importlib.import_module(_home(name))
    except ModuleNotFoundError as error:
        # The same error class means "no such module" and "the module imports something that is not installed".
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise GraphInvalid(_failure(name, error)) from error
        raise GraphNotFound(
            f"There is no module {name}, and langgraph.json has no graph of that name."
            f"{closest(name, [*known, *_siblings(name)])} The current folder is {Path.cwd()}."
        ) from error
    except (Exception, SystemExit) as error:
        raise GraphInvalid(_failure(name, error)) from error


def _home(name: str) -> str:
    """Return the full name of a module: `graphs.…` is a flow of this project, unless the caller has such a module.

    In a checkout of this project the plain name leads to the same file, which must not be loaded under two names.
    """
    ours = f"{PACKAGE}.{name}"
    if not name.startswith("graphs.") or _origin(ours) is None:
        return name
    top = _origin("graphs")
    theirs = top is not None and top != _origin(f"{PACKAGE}.graphs") and _origin(name) is not None
    return name if theirs else ours


def import_file(path: Path, root: Path, *, entry: str) -> ModuleType:
    """Import a module by its file, under its dotted name if the import path leads to that file.

    Args:
        path: The file.
        root: The project folder; it is on the import path.
        entry: Name in `langgraph.json`, for messages.

    Returns:
        The module; the same object when called again.

    Raises:
        GraphNotFound: There is no such file.
        GraphInvalid: The file fails to import.
    """
    path, root = path.resolve(), root.resolve()
    if not path.is_file():
        raise GraphNotFound(f"langgraph.json says that {entry!r} is in {path}, but there is no such file.")
    if path.is_relative_to(root):
        # The dotted name makes relative imports work, and the module the same one that others import.
        parts = path.relative_to(root).with_suffix("").parts
        dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if all(part.isidentifier() for part in parts) and _origin(dotted) == path:
            return import_named(dotted, known=())
    alias = f"_graph_file_{path.stem}_{abs(hash(str(path))):x}"
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


def _origin(dotted: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(dotted)
    except Exception:  # noqa: BLE001 - a parent package that fails to import: then the file is imported by itself
        return None
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
