"""Once more without any of the shortcuts: `python -m superstep.runtime`, killed by the variable, resumed by hand."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.crash.world import GRAPH, THREAD, Done, environment

if TYPE_CHECKING:
    from tests.crash.conftest import Undisturbed
    from tests.crash.world import World


def runtime(world: World, *arguments: str, **variables: str) -> Done:
    command = [sys.executable, "-m", "superstep.runtime", *arguments, "--json", "--db", world.url]
    env = environment(**world.variables, **variables)
    done = subprocess.run(command, env=env, cwd=world.folder, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("place", ["memo.before_store:4", "commit.before_commit:7"])
def test_run_is_killed_and_resume_finishes_it(world: World, undisturbed: Undisturbed, place: str) -> None:
    killed = runtime(world, "run", GRAPH, "--thread", THREAD, SUPERSTEP_FAILPOINT=place)
    assert (killed.code, killed.out) == (-signal.SIGKILL, "")
    assert json.loads(runtime(world, "threads").out)[0]["status"] == "unfinished"
    resumed = runtime(world, "resume", THREAD)
    assert (resumed.code, resumed.err) == (0, "")
    assert (resumed.json["status"], resumed.json["error"]) == ("completed", None)
    left = world.traces(resumed)
    left.assert_equal(undisturbed.traces)
    assert (left.paid - undisturbed.traces.paid).total() <= place.startswith("memo.before_store")
