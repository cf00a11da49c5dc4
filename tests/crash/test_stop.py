"""Ctrl-C, at every named place."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.database import failpoints

if TYPE_CHECKING:
    from tests.crash.conftest import Undisturbed
    from tests.crash.world import World


@pytest.mark.parametrize("name", failpoints.NAMES)
def test_an_interrupted_run_is_finished_by_resume(world: World, undisturbed: Undisturbed, name: str) -> None:
    """A commit that is under way is carried through; whatever else was under way is not."""
    nth = (undisturbed.hits[name] + 1) // 2
    stopped = world.start_run(at=f"{name}:{nth}", number=signal.SIGINT).wait()
    assert stopped.code == 130, stopped.err
    assert "Traceback" not in stopped.err
    assert stopped.json["status"] == "unfinished"
    left = world.traces(world.finish())
    left.assert_equal(undisturbed.traces, f"{name}:{nth}")
    assert max((left.paid - undisturbed.traces.paid).values(), default=0) <= 1
