"""Roots of embedded servers, and processes that use them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.embedded import EmbeddedServer, stop
from superstep.checkpointer.embedded.place import prepare
from tests.checkpointer.embedded.processes import (
    GRACE,
    PROJECT,
    USER,
    temporary_root,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def initialised() -> Iterator[Path]:
    """A data folder as the very first start leaves it."""
    with temporary_root() as folder:
        with EmbeddedServer.acquire(folder):
            pass
        stop(folder)
        yield folder / "pg" / "data"


@pytest.fixture
def empty_root() -> Iterator[Path]:
    """A root where no server has ever been."""
    with temporary_root() as folder:
        yield folder


@pytest.fixture
def root(empty_root: Path, initialised: Path) -> Path:
    """A root whose server has been started before, which saves creating the data in every test."""
    subprocess.run(["cp", "-a", str(initialised), str(prepare(empty_root).home)], check=True)
    return empty_root


@pytest.fixture
def spawn(empty_root: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts processes that use the server until their standard input ends."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", USER, str(empty_root), str(GRACE)]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        process = subprocess.Popen(
            command, env=environment, cwd=empty_root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
