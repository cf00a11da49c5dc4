"""Many rounds, one after the other: `make soak`. Goes on where it was stopped, and repeats a round by its name.

    python -m tests.soak                         rounds until there were enough crashes and super-steps
    python -m tests.soak crash:17 history:3      these rounds
    python -m tests.soak crash:17 --planted "nobody is fenced"     one with a defect in it, which it must find

A round that finds something is told with what it found, the folder of what its processes wrote, and how to repeat it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from superstep.checkpointer.embedded import EmbeddedServer, stop
from tests.soak.database import own_database
from tests.soak.fork import nursery
from tests.soak.plan import Kind, draw
from tests.soak.planted import PLANTED
from tests.soak.round import Round, Tally

if TYPE_CHECKING:
    from tests.crash.world import Nursery
    from tests.soak.plan import Plan

_KEPT = Path(".soak")  # how far the rounds have come


def main() -> int:
    """Run rounds; 1 if one of them found something."""
    given = _arguments()
    root = Path(tempfile.mkdtemp(prefix="superstep-soak-"))
    root.chmod(0o755)  # run by root, the server is another user
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        stack.callback(stop, root)
        server = stack.enter_context(EmbeddedServer.acquire(root))
        forks = nursery()
        stack.callback(forks.close)
        if given.rounds:
            return _these(given, server, root, forks)
        return _many(given, server, root, forks)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("rounds", nargs="*", metavar="KIND:SEED", help="rounds to repeat")
    parser.add_argument("--crashes", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after the round that passes this")
    parser.add_argument("--seed", type=int, help="of the first rounds, instead of where it was stopped")
    parser.add_argument("--planted", choices=PLANTED)
    return parser.parse_args()


def _these(given: argparse.Namespace, server: EmbeddedServer, root: Path, forks: Nursery) -> int:
    found = 0
    for name in given.rounds:
        kind, _, seed = name.partition(":")
        found += _tell(draw(Kind(kind), int(seed)), server, root, forks, given.planted).problems != []
    return found > 0


def _many(given: argparse.Namespace, server: EmbeddedServer, root: Path, forks: Nursery) -> int:
    """Each time a round of the kind of which most is missing, with its next seed."""
    _KEPT.mkdir(exist_ok=True)
    file = _KEPT / "progress.json"
    done, seeds = Tally(), Counter[str]()
    if given.seed is not None:
        seeds = Counter({kind.value: given.seed for kind in Kind})
    elif file.exists():
        kept = json.loads(file.read_text())
        done, seeds = Tally(**{**kept["done"], "crashes": Counter(kept["done"]["crashes"])}), Counter(kept["seeds"])
        done.problems = []  # they were told
        print(f"goes on after {done}", flush=True)
    began = time.monotonic()
    while (kind := _next(given, done, seeds)) is not None and time.monotonic() - began < given.seconds:
        done.add(_tell(draw(kind, seeds[kind.value]), server, root, forks))
        seeds[kind.value] += 1
        file.write_text(json.dumps({"done": vars(done), "seeds": seeds}))
    missing = "" if _next(given, done, seeds) is None else "; run it again to go on"
    print(f"all rounds: {done}; {len(done.problems)} problems{missing}")
    return bool(done.problems)


def _next(given: argparse.Namespace, done: Tally, seeds: Counter[str]) -> Kind | None:
    crashes, steps = done.crashes.total() / given.crashes, done.steps / given.steps
    if min(crashes, steps) >= 1:
        return None
    if steps < crashes:
        return Kind.HISTORY
    # A server that dies is a round of its own: one of them to four in which it lives.
    return Kind.SERVER if 4 * seeds[Kind.SERVER.value] < seeds[Kind.CRASH.value] else Kind.CRASH


def _tell(plan: Plan, server: EmbeddedServer, root: Path, forks: Nursery, planted: str | None = None) -> Tally:
    """A round on a database of its own, and what is to be said of it."""
    folder = Path(tempfile.mkdtemp(prefix=f"superstep-soak-{plan.kind.value}-{plan.seed}-"))
    try:
        with own_database(server) as url:
            tally = asyncio.run(Round(plan, url, folder, forks, root, planted).run())
    except Exception:
        tally = Tally(problems=[traceback.format_exc()])
    print(f"{plan.name}: {tally}", flush=True)
    if tally.problems:
        print("\n".join((*tally.problems, f"what its processes wrote: {folder}", plan.again)), flush=True)
    else:
        shutil.rmtree(folder)
    return tally


if __name__ == "__main__":
    sys.exit(main())
