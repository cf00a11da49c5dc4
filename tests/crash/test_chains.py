"""Runs killed at one place, whose resumes are killed at others."""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.database import failpoints

if TYPE_CHECKING:
    from tests.crash.conftest import Undisturbed
    from tests.crash.world import World

# 88: a resume killed when all results of its step were saved, and nothing of it was committed.
SEEDS = range(300) if os.environ.get("SUPERSTEP_CRASH_ALL") else (0, 1, 2, 88)


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_one_place_after_the_other(world: World, undisturbed: Undisturbed, seed: int) -> None:
    dice, ends, start = random.Random(seed), [], world.start_run
    world.variables["RUNTIME_HOLD_IDLE"] = dice.choice(["0.25", "0"])
    while True:
        name = dice.choice(failpoints.NAMES)
        nth = dice.randint(1, 1 if name == "run.claimed" else 3)
        done = start(at=f"{name}:{nth}" if len(ends) < 12 else None).wait()
        ends.append((name, nth, done.code))
        if done.code == -signal.SIGKILL:
            start = world.start_resume
        elif done.code == 3 and done.error == "ThreadNotFound":
            start = world.start_run
        else:
            break
    left = world.traces(done)
    left.assert_equal(undisturbed.traces, str(ends))
    assert max((left.paid - undisturbed.traces.paid).values(), default=0) < len(ends)
