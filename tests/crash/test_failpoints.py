"""SIGKILL at every named place, each time the flow comes by; then `runtime resume`."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.database import failpoints
from tests.crash.world import OTHERS

if TYPE_CHECKING:
    from tests.crash.conftest import NewWorld, Undisturbed


def test_an_undisturbed_run_comes_by_every_place_and_pays_every_question_once(undisturbed: Undisturbed) -> None:
    traces = undisturbed.traces
    assert set(undisturbed.hits) == set(failpoints.NAMES)
    assert traces.balances == [999, 993, 997, 976, 983, 994, 993, 992, 981]
    assert traces.journal[-1] == "closing 8927 10"
    assert (traces.values["total"], traces.values["lines"]) == (8927, len(traces.journal) - 1)
    assert len(traces.values["seen"] + traces.values["found"]) == 2 + traces.paid.total() + 1
    assert [count for count in traces.paid.values() if count != 1] == [traces.paid["audit"]] == [2]


# SUPERSTEP_CRASH_ALL=1 is for each and every time, which takes two minutes; without it, every sixth.
ALL = bool(os.environ.get("SUPERSTEP_CRASH_ALL"))
PLACES = {"0.25": range(1, 99, 1 if ALL else 6), "0": range(1 if ALL else 3, 99, 1 if ALL else 6)}


@pytest.mark.parametrize("hold_idle", PLACES, ids=["direct", "replay"])
@pytest.mark.parametrize("name", failpoints.NAMES)
def test_a_run_killed_there_is_finished_by_resume(
    new_world: NewWorld, undisturbed: Undisturbed, name: str, hold_idle: str
) -> None:
    """Until there is no next time. `hold_idle` 0 gives a step's transaction back after each read."""
    for nth in PLACES[hold_idle]:
        world = new_world(RUNTIME_HOLD_IDLE=hold_idle)
        killed = world.start_run(at=f"{name}:{nth}").wait()
        if killed.code == 0:
            break
        assert killed.code == -signal.SIGKILL, killed.err
        world.until(f"NOT EXISTS ({OTHERS})")  # the server has carried out, or dropped, what the dead one had sent
        lost = world.paid() - world.stored()
        left = world.traces(world.finish())
        left.assert_equal(undisturbed.traces, f"{name}:{nth}")
        # Only an answer that was on its way into the database is paid again: one at most of each task that was asking.
        assert max(lost.values(), default=0) <= 1
        assert left.paid - undisturbed.traces.paid <= lost
