"""A vendor in a process of its own, which a test can kill with SIGKILL while it is answering."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VendorProcess", "vendor_process"]

_ROOT = Path(__file__).parents[3]


@dataclass(slots=True)
class VendorProcess:
    """The running process.

    Attributes:
        url: its address without a path.
        pid: its process id.
    """

    url: str
    pid: int
    _process: subprocess.Popen[str]
    _lines: IO[str]

    @property
    def openai_url(self) -> str:
        """The address as OpenAI's SDK wants it."""
        return f"{self.url}/v1"

    def next_request(self) -> dict[str, Any]:
        """Wait for the next request to arrive: its `path`, `model` and `schema` (a name)."""
        line = self._lines.readline()
        if not line:
            raise EOFError("The vendor has ended.")
        return dict(json.loads(line))

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()


@contextmanager
def vendor_process(*arguments: str) -> Iterator[VendorProcess]:
    """Run `python -m tests.support.vendors` with these arguments."""
    command = [sys.executable, "-m", "tests.support.vendors", *arguments]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            yield VendorProcess(first["url"], process.pid, process, process.stdout)
        finally:
            process.kill()
