"""`runtime worker` in processes of their own, none of which is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Workers"]

_ROOT = Path(__file__).parents[2]
_PATIENCE = 120.0
_OURS = ("RUNTIME_", "DATABASE_URL", "SUPERSTEP_", "OPENAI_", "ANTHROPIC_")


class Workers:
    """Use it as a context manager.

    Args:
        url: of the database, which has the tables.
        graph: what they take runs of.
        variables: for their environment.

    Attributes:
        processes: those that live, by their process numbers.
    """

    def __init__(self, url: str, graph: str, **variables: str) -> None:
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._url, self._graph = url, graph
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        self._variables = {**inherited, "PYTHONPATH": str(_ROOT), **variables}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()

    def start(self, count: int, *options: str) -> None:
        """Start so many, and wait until they have said that they are there."""
        command = [sys.executable, "-m", "superstep.runtime", "worker", "--db", self._url, "--graph", self._graph]
        for _ in range(count):
            process = subprocess.Popen([*command, *options], cwd=_ROOT, env=self._variables, stderr=subprocess.DEVNULL)
            self.processes[process.pid] = process
        limit = time.monotonic() + _PATIENCE
        with psycopg.connect(self._url, autocommit=True) as conn:
            there: set[int] = set()
            while not there >= set(self.processes):
                ended = [process for process in self.processes.values() if process.poll() is not None]
                if ended or time.monotonic() > limit:
                    raise RuntimeError(f"workers have not begun: {ended}")
                time.sleep(0.02)
                there = {row[0] for row in conn.execute("SELECT pid FROM runtime.run_worker WHERE graphs <> '{}'")}

    def kill(self, pid: int) -> None:
        """SIGKILL."""
        process = self.processes.pop(pid)
        process.kill()
        process.wait()
