"""Tests run on files: in a process of their own, in a folder of their own, for a limited time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from superstep.graphs.workspace.merging import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SECONDS", "Tested", "run_tests"]

SECONDS = 10.0
_MOST_OUTPUT = 2000  # characters of it that are kept, from the end

# With an alarm of its own: the process ends in time even if this one is killed meanwhile.
_PROGRAM = (
    "import signal, unittest; signal.alarm({}); unittest.main(None, argv=['', 'discover', '--start-directory', '.'])"
)


class Tested(NamedTuple):
    """What the tests said, and of which files: `digest` names their contents."""

    passed: bool
    output: str
    digest: str


async def run_tests(files: Mapping[str, str]) -> Tested:
    """Run the tests that are among the files. May be repeated: nothing is left behind.

    The files are written by models. A process without our environment and with a time limit keeps their mistakes and
    our keys apart; it is no sandbox. For code you would not run yourself, put one here.
    """
    return await asyncio.to_thread(_run, dict(files))


def _run(files: Mapping[str, str]) -> Tested:
    with tempfile.TemporaryDirectory(prefix="workspace-") as folder:
        for path, content in files.items():
            (Path(folder) / path).write_text(content, encoding="utf-8", newline="")
        with subprocess.Popen(  # noqa: S603 - our own command
            (sys.executable, "-I", "-B", "-c", _PROGRAM.format(int(SECONDS) + 1)),
            cwd=folder,
            env={"TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=SECONDS)
                said, passed = output.decode(errors="replace"), process.returncode == 0
            except subprocess.TimeoutExpired:
                said, passed = f"The tests took longer than {SECONDS:.0f} s.", False
            finally:
                _end_all(process)
    return Tested(passed, said.replace(folder, "")[-_MOST_OUTPUT:], digest(files))


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it has started: all of them are in its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
