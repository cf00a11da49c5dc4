"""Whether a process is still there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from superstep.checkpointer.threads.liveness import LEASE, Process, is_alive, this_process

AGES = 10 * LEASE  # a machine that knows its processes needs no sign of life


def of(process: subprocess.Popen[bytes]) -> Process:
    """A child, as it would describe itself."""
    code = f"from superstep.checkpointer.threads.liveness import _mark; print(_mark({process.pid}))"
    mark = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    return replace(this_process(), pid=process.pid, mark=mark)


def test_this_process_is_there() -> None:
    assert is_alive(this_process(), silent=AGES)
    assert this_process() == this_process()


def test_one_that_was_killed_is_gone_at_once_also_before_its_parent_has_noticed() -> None:
    child = subprocess.Popen(["sleep", "100"])
    found = of(child)
    assert is_alive(found, silent=AGES)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it
    assert not is_alive(found, silent=0)
    child.wait()
    assert not is_alive(found, silent=0)


def test_one_that_was_stopped_is_there() -> None:
    child = subprocess.Popen(["sleep", "100"])
    try:
        found = of(child)
        child.send_signal(signal.SIGSTOP)
        assert is_alive(found, silent=AGES)
    finally:
        child.kill()
        child.wait()


def test_another_one_with_the_same_number_is_not_it() -> None:
    assert not is_alive(replace(this_process(), mark="1"), silent=0)


@pytest.mark.parametrize("machine", ["another boot", "the same boot, in another container"])
def test_of_other_machines_only_the_sign_of_life_tells(machine: str) -> None:
    there = replace(this_process(), machine=machine)
    assert is_alive(there, silent=LEASE - 1)
    assert not is_alive(there, silent=LEASE)
    assert is_alive(replace(there, pid=2**22 + 1), silent=0)
