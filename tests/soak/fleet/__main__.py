"""The rounds of workers that are killed, in full: part of `make soak`. 1 if one of them found something.

python -m tests.soak.fleet [effects] [runs] [--seed N] [--small] [--planted "nobody stands in line"]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from superstep.checkpointer.embedded import EmbeddedServer, stop
from tests.crash.world import Nursery
from tests.soak.database import own_database
from tests.soak.fleet.plan import FleetPlan
from tests.soak.fleet.planted import PLANTED
from tests.soak.fleet.round import FleetRound

__all__ = ["FULL", "SMALL", "main", "own_nursery"]

FULL = (FleetPlan("effects", runs=200, effects=5, kills=200), FleetPlan("runs", runs=2_000, effects=1, kills=200))
SMALL = (FleetPlan("effects", runs=16, effects=5, kills=10), FleetPlan("runs", runs=60, effects=1, kills=10))


def own_nursery() -> Nursery:
    """One that has imported what the workers run."""
    return Nursery("tests.soak.fleet.worker")


def main() -> int:
    """Run them, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.fleet")
    parser.add_argument("names", nargs="*", metavar="NAME", help="effects, runs, or both if none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--planted", choices=PLANTED, help="a defect, which the round must find")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="superstep-soak-"))
    root.chmod(0o755)  # run by root, the server is another user
    found = 0
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        stack.callback(stop, root)
        server = stack.enter_context(EmbeddedServer.acquire(root))
        forks = own_nursery()
        stack.callback(forks.close)
        for plan in SMALL if given.small else FULL:
            if not given.names or plan.name in given.names:
                found += _tell(replace(plan, seed=given.seed), server, forks, given.planted)
    return found > 0


def _tell(plan: FleetPlan, server: EmbeddedServer, forks: Nursery, planted: str | None) -> int:
    folder = Path(tempfile.mkdtemp(prefix=f"superstep-soak-{plan.name}-"))
    with own_database(server) as url:
        tally = asyncio.run(FleetRound(plan, url, folder, forks, planted).run())
    print(f"{plan.name} (seed {plan.seed}): {tally}", flush=True)
    if tally.problems:
        print("\n".join((*tally.problems, f"what its processes wrote: {folder}")), flush=True)
    else:
        shutil.rmtree(folder)
    return len(tally.problems)


if __name__ == "__main__":
    sys.exit(main())
