"""Two processes that both want to finish a thread, and one that was thought dead and was not."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash.world import OTHERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.crash.conftest import Undisturbed
    from tests.crash.world import Running, World

    Sleeper = Callable[[str], Running]

FENCED = 7
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc whether a process is paused")


@pytest.mark.parametrize(
    "place", ["step.pinned:3", "memo.stored:4", "writes.flushed:2", "commit.before_commit:6", "commit.committed:9"]
)
def test_two_resumes_at_the_same_time_write_once(world: World, undisturbed: Undisturbed, place: str) -> None:
    assert world.start_run(at=place).wait().code == -signal.SIGKILL
    ends = [running.wait() for running in [world.start_resume(), world.start_resume()]]
    for end in ends:
        assert end.code in (0, FENCED) or (end.code, end.error) == (3, "ThreadFinished"), end.err
    completed = [end for end in ends if end.code == 0]
    left = world.traces(completed[0])
    left.assert_equal(undisturbed.traces, place)
    # Both may have asked the same at the same time, without either knowing of the other's answer.
    assert max((left.paid - undisturbed.traces.paid).values(), default=0) <= 2


SIBLINGS = 1  # tasks that run beside the one that reaches the failpoint


@pytest.fixture
def sleeper(world: World) -> Iterator[Sleeper]:
    """Starts a run that pauses itself at a failpoint, and returns when it has."""
    asleep: list[Running] = []

    def start(place: str) -> Running:
        asleep.append(world.start_run(at=place, number=signal.SIGSTOP))
        stat = Path(f"/proc/{asleep[-1].pid}/stat")
        while (state := stat.read_text().rsplit(")", 1)[1].split()[0]) not in "TZ":
            pass
        assert state == "T", asleep[-1].wait()
        return asleep[-1]

    yield start
    for running in asleep:
        running.send(signal.SIGKILL)


@LINUX
@pytest.mark.parametrize(
    "name",
    ["step.pinned", "memo.before_store", "memo.stored", "writes.before_flush", "commit.begun", "commit.committed"],
)
def test_a_run_that_wakes_up_after_another_has_finished_writes_nothing_and_asks_nothing_new(
    world: World, undisturbed: Undisturbed, sleeper: Sleeper, name: str
) -> None:
    late = sleeper(f"{name}:3")
    in_flight = world.paid() - world.stored()
    resumed = world.start_take_over().wait()
    assert resumed.code == 0, resumed.err
    late.send(signal.SIGCONT)
    end = late.wait()
    assert (end.code, end.error) == (FENCED, "StaleRun"), end.err
    left = world.traces(resumed)
    left.assert_equal(undisturbed.traces)
    # What it was about to store when it fell asleep may have to be paid again; so may what a sibling task was about to
    # ask, having just been told that it owns the thread.
    extra = left.paid - undisturbed.traces.paid
    assert (extra - in_flight).total() <= SIBLINGS


@LINUX
def test_a_run_that_sleeps_on_its_commit_is_waited_for(
    world: World, undisturbed: Undisturbed, sleeper: Sleeper
) -> None:
    """It holds the thread's row. The commit that was ready counts; the resume goes on after it."""
    late = sleeper("commit.before_commit:3")
    resume = world.start_take_over()
    world.until(f"EXISTS ({OTHERS} AND wait_event_type = 'Lock')")
    late.send(signal.SIGCONT)
    resumed, end = resume.wait(), late.wait()
    assert resumed.code == 0, resumed.err
    assert (end.code, end.error) == (FENCED, "StaleRun"), end.err
    world.traces(resumed).assert_equal(undisturbed.traces)
