"""Peers with requirements of their own: each in an environment of its own, made once; `make clean` removes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["checked", "environment"]

_HOME = Path(__file__).parents[2] / ".bench"


def environment(name: str, install: Callable[[Callable[..., object], Path], object]) -> Path:
    """The Python of an environment.

    Args:
        name: of the environment: what is in it, with its version.
        install: puts it there; is given pip, to be called with requirements, and the folder of installed packages.
    """
    home = _HOME / name
    python, done = home / "bin" / "python", home / ".installed"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        checked(sys.executable, "-m", "venv", str(home))
        [site] = (home / "lib").glob("python*/site-packages")
        pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        install(lambda *wanted: checked(*pip, *wanted), site)
        done.touch()
    return python


def checked(*command: str | Path) -> str:
    """What a command prints; its errors end the benchmark."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout
