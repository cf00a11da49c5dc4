"""Fixtures of the command-line tests: commands in this process, and in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from superstep.providers import configure
from superstep.runtime.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
GRAPHS = "tests.runtime.cli.graphs_for_tests"
OURS = ("RUNTIME_", "DATABASE_URL", "OPENAI_", "ANTHROPIC_")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be one JSON value and nothing else."""
        return json.loads(self.out)


class Runtime(Protocol):
    def __call__(self, *arguments: str) -> Done: ...


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start in an empty folder, without the settings of the surrounding environment; leave imports as they were."""
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield
    configure(None)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("_graph_file_", "flow_of_test")):
            del sys.modules[name]


@pytest.fixture
def runtime(capsys: pytest.CaptureFixture[str]) -> Runtime:
    """`runtime …` in this process."""

    def call(*arguments: str) -> Done:
        code = main(list(arguments))
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture
def on_db(runtime: Runtime, database_url: str) -> Runtime:
    """`runtime … --db URL` in this process, on a database with the tables."""
    return lambda *arguments: runtime(*arguments, "--db", database_url)


@pytest.fixture
def process_env() -> dict[str, str]:
    """Environment for `python -m superstep.runtime` in a process of its own."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}


@pytest.fixture
def start(process_env: dict[str, str]) -> Iterator[Any]:
    """Start `python -m superstep.runtime …` with pipes. What still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "superstep.runtime", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        started.append(subprocess.Popen(command, env=process_env, text=True, **{**pipes, **options}))
        return started[-1]

    yield call
    for process in started:
        with process:
            process.kill()
