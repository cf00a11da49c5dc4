"""SIGKILL at moments nobody chose, again and again until the flow has finished."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.crash.conftest import Undisturbed
    from tests.crash.world import Done, Running, World


def kill(running: Running, delay: float) -> Done:
    time.sleep(delay)  # the moment is the test: nothing waits for it to be over
    running.send(signal.SIGKILL)
    return running.wait()


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_moment(world: World, undisturbed: Undisturbed, seed: int) -> None:
    """The moments are spread over the whole of a run, each somewhere in its own twelfth."""
    world.variables["RUNTIME_HOLD_IDLE"] = ("0.25", "0")[seed % 2]
    moment = undisturbed.seconds * (seed + random.Random(seed).random()) / 12
    kills = int(kill(world.start_run(), moment).code == -signal.SIGKILL)
    left = world.traces(world.finish())
    left.assert_equal(undisturbed.traces)
    assert max((left.paid - undisturbed.traces.paid).values(), default=0) <= kills


@pytest.mark.parametrize("seed", range(4))
def test_killed_again_and_again_until_it_has_finished(world: World, undisturbed: Undisturbed, seed: int) -> None:
    """Patience grows with each kill, or a slow machine would never come to its first commit."""
    dice, kills, start = random.Random(100 + seed), 1, world.start_resume
    assert world.start_run(at=f"commit.staged:{1 + seed % 2}").wait().code == -signal.SIGKILL
    while (done := kill(start(), undisturbed.seconds * dice.uniform(0.2, 0.5 + kills / 20))).code != 0:
        if done.code == -signal.SIGKILL:
            kills, start = kills + 1, world.start_resume
        elif done.error == "ThreadNotFound":
            start = world.start_run
        else:
            assert done.error == "ThreadFinished", done.err
            break
    left = world.traces(done)
    left.assert_equal(undisturbed.traces)
    assert max((left.paid - undisturbed.traces.paid).values(), default=0) <= kills
