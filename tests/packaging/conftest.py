"""A wheel and an sdist of this tree, each installed into an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
PARTS = ("checkpointer", "graphs", "prompts", "providers", "runtime")
OURS = ("RUNTIME_", "DATABASE_URL", "OPENAI_", "ANTHROPIC_", "PYTHON")


@dataclass(frozen=True)
class Distributions:
    """What was built from the tree."""

    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the distribution installed. Nothing of the checkout is on its import path."""

    folder: Path

    def run(self, program: str, *arguments: str, cwd: Path) -> str:
        """Run a program of the environment to its end, and return what it printed. A failure fails the test."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return run([str(self.folder / "bin" / program), *arguments], cwd=cwd, env=env)


def run(command: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, into: Path, *targets: str) -> list[Path]:
    """Build distributions with the build backend that this environment has; nothing is downloaded."""
    options = [argument for target in targets for argument in ("-t", target)]
    run([sys.executable, "-m", "hatchling", "build", *options, "-d", str(into)], cwd=source)
    return sorted(into.iterdir())


def unpack(sdist: Path, into: Path) -> Path:
    """Unpack an sdist and return the one folder in it."""
    run([sys.executable, "-m", "tarfile", "-e", str(sdist), str(into)], cwd=sdist.parent)
    (folder,) = into.iterdir()
    return folder


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The wheel and the sdist of this tree."""
    wheel, sdist = build(ROOT, tmp_path_factory.mktemp("dist"), "sdist", "wheel")
    return Distributions(wheel, sdist)


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Environment]:
    """Installs a file, without its dependencies: those of the environment that runs the tests are seen.

    They are seen through a .pth file, and .pth files beside them are not read. So the editable install that the tests
    run on, which puts the checkout on the import path, does not reach the new environment.
    """

    def call(file: Path) -> Environment:
        folder = tmp_path_factory.mktemp("environment")
        run([sys.executable, "-m", "venv", "--without-pip", str(folder)], cwd=folder)
        python = str(folder / "bin" / "python")
        site = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder).strip())
        libraries = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
        (site / "dependencies.pth").write_text("\n".join(libraries))
        options = ["--quiet", "--ignore-installed", "--no-deps", "--no-index", "--no-build-isolation"]
        run([sys.executable, "-m", "pip", "--python", python, "install", *options, str(file)], cwd=folder)
        return Environment(folder)

    return call


@pytest.fixture(scope="session")
def from_wheel(distributions: Distributions, install: Callable[[Path], Environment]) -> Environment:
    """An environment with the wheel."""
    return install(distributions.wheel)


@pytest.fixture(scope="session")
def from_sdist(distributions: Distributions, install: Callable[[Path], Environment]) -> Environment:
    """An environment with what pip makes of the sdist."""
    return install(distributions.sdist)
