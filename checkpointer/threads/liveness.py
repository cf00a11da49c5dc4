"""Whether the process that runs a thread still does. Pure, but for looking at the processes of this machine.

On the same machine the operating system knows, at once: a process that was killed is gone, and one that was stopped or
hangs is there. Of other machines only the worker's sign of life in the database tells (a lease, as in Gray and Cheriton
1989): without one for `LEASE` seconds its process counts as gone. A wrong answer costs no consistency: the fencing
token decides what commits.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["BEAT", "LEASE", "Process", "is_alive", "located", "this_process"]

BEAT = 5.0  # seconds between two signs of life
LEASE = 20.0  # seconds without one after which a process of another machine counts as gone

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PID_SPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, named so that no other one is ever taken for it.

    Attributes:
        host: name of its machine, for people.
        machine: identity of its machine since that was started, and of the process space in it: each container has one.
        pid: its number there.
        mark: when it was started, as the system counts; "" where that is not known.
    """

    host: str
    machine: str
    pid: int
    mark: str


async def located() -> None:
    """Find out which machine this is, once, in a thread: servers refuse to wait for the system on their loop.

    Whoever is about to ask anything here on an event loop awaits this first.
    """
    if not _machine.cache_info().currsize:
        thread = ThreadPoolExecutor(1)  # one that ends: a process that is told to stop does not wait for idle ones
        try:
            await asyncio.get_running_loop().run_in_executor(thread, _machine)
        finally:
            thread.shutdown(wait=False)


def this_process() -> Process:
    """The process that calls this."""
    return Process(platform.node(), _machine(), os.getpid(), _mark(os.getpid()) or "")


def is_alive(process: Process, silent: float) -> bool:
    """Whether a process is still there.

    Args:
        process: which one.
        silent: seconds since its last sign of life.
    """
    if process.machine != _machine() or sys.platform == "win32":
        return silent < LEASE
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        pass
    mark = _mark(process.pid)
    return mark is None or mark == process.mark


@cache
def _machine() -> str:
    with suppress(OSError):
        return f"{_BOOT.read_text().strip()} {os.readlink(_PID_SPACE)}"  # noqa: PTH115 - the link leads to no file
    return f"{uuid.getnode():x} {platform.node()}"


def _mark(pid: int) -> str | None:
    """When a process was started, "" if it has ended and only waits to be collected; `None` if that cannot be known."""
    try:
        # After the name, which may hold anything: the state, then eighteen more fields, then the time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]
