"""`python -m tests.benchmarks [NAME ...] [--quick] [--db URL] [--out FILE] [--update]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import psycopg

from tests.benchmarks import plots_side
from tests.benchmarks.page import updated
from tests.benchmarks.peers import environment
from tests.benchmarks.section import Curves, goals_of
from tests.benchmarks.setting import benchmark_place

_NAMES = (
    "loop",
    "chat",
    "race",
    "contention",
    "growth",
    "million",
    "round_trips",
    "vectors",
    "semantic",
    "routing",
    "ingestion",
    "handoffs",
    "fleet",
    "telemetry",
)
MATPLOTLIB = "3.11.2"
_TRIED = """## What falls short, and what was tried

*The loop beside AsyncPostgresSaver and InMemorySaver.* A super-step without reads is one statement, shared by all
that are ready in the process; what is left is CPU of the Python process, most of it LangGraph's own, which the row of
InMemorySaver shows: that itself is 2.6 times AsyncPostgresSaver with 8 flows, 2.7 times with 32 and 2.2 times with
128, so 3.5 times is beyond any saver here. Tried: one statement for all, connections that are kept, arrays sent as
text, fewer tasks and copies.

*One read and one write.* Four round trips, beside a loop whose flows share one. Tried: shared transactions while
commits meet, validating all reads in one statement, sending what a session leaves behind to its end with the COMMIT,
keeping a connection although others wait where the process computes (nine messages a step became six), the staged
write in the statement of the checkpoint and reads without a subtransaction (six became four: 0.41 became 0.56), one
round trip less in a shared transaction, sharing only at higher shares of aborted commits (no difference). What is left
is Python: each message costs it about 0.1 ms, and a step of its own about as much as LangGraph's.

*Thousands of flows that think.* All begin at once, so one process has to begin them all before the first has thought,
and to end them all after the last. LangGraph with InMemorySaver and no database at all takes 1.35 times the thinking
for 1,000 flows and 3.8 times for 5,000, on the same machine on the same day: no saver reaches the goal here. Tried:
sharing transactions when they end together, giving connections back at once where a pause is long, finding runs by
their key.

*Searching and inserting.* The same CPU, for steps that think 0.1 s.

*Telemetry.* 3 to 8 % without reads and 7 to 9 % with a read and a write, with turns that differ by as much from each
other: it was 12 % and 20 %. Tried: spans that skip what the SDK does for rare cases (a fifth of the cost of its own),
super-steps told once they are over, the run's span made current once, durations noted 32 at a time, contexts of two
keys made at once, ended spans handed on without a copy. What is left of the four spans of a super-step that reads and
writes is to begin and to end them, two fifths of it in the SDK, beside two milliseconds of everything else.
"""
_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main() -> None:
    """Run, print, and write the page with its plots if everything was run."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Side-by-side benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ({', '.join(_NAMES)}); all if none is named")
    parser.add_argument("--quick", action="store_true", help="only see that they work; the figures mean nothing")
    parser.add_argument("--db", help="URL of a server to use instead of an embedded one")
    parser.add_argument("--out", type=Path, help="where to write (default: docs/benchmarks.md if all were run in full)")
    parser.add_argument("--update", action="store_true", help="put the named ones in place of theirs in the page")
    given = parser.parse_args()
    if unknown := set(given.names) - set(_NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    sections = []
    for name in given.names or _NAMES:
        print(f"{name} …", file=sys.stderr, flush=True)
        module = import_module(f"tests.benchmarks.{name}")
        with benchmark_place(given.db, quick=given.quick) as place:
            server = _server_version(place.url)
            sections.append(asyncio.run(module.run(place)))
        print(sections[-1].text, flush=True)
    print(goals := goals_of(sections), flush=True)
    out = given.out or (_PAGE if given.update or not (given.names or given.quick) else None)
    if out is not None:
        plots = out.with_suffix("")
        out.parent.mkdir(exist_ok=True)
        if given.update:
            text = updated(out.read_text(encoding="utf-8"), sections, plots.name, _run(server))
        else:
            text = "\n".join([_title(server), goals, _TRIED, *(section.page(plots.name) for section in sections)])
        out.write_text(text, encoding="utf-8")
        _draw([curves for section in sections for curves in section.curves], plots)


def _draw(curves: list[Curves], folder: Path) -> None:
    python = environment(f"matplotlib-{MATPLOTLIB}", lambda pip, _: pip(f"matplotlib=={MATPLOTLIB}"))
    given = json.dumps([each.plain() for each in curves])
    subprocess.run([python, plots_side.__file__, folder], input=given, text=True, check=True)


def _run(server: str) -> str:
    return f"Run by itself on {datetime.now(UTC).date().isoformat()}: {_setting(server)}"


def _setting(server: str) -> str:
    packages = ("langgraph", "langgraph-checkpoint-postgres", "asyncpg", "psycopg")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"Python {platform.python_version()}, {versions}, PostgreSQL {server} with `fsync` on; client and server share "
        f"{os.cpu_count()} cores ({platform.machine()})."
    )


def _title(server: str) -> str:
    return (
        "# Benchmarks\n\nWritten by `make bench`. Contenders take turns within one run; figures are medians, ratios "
        "are medians of the ratios of neighbouring turns. Compare within a table only: another machine, or a busier "
        "one, gives other figures and about the same ratios. A section that says when it was run was run by itself."
        f"\n\n{_setting(server)}\n"
    )


def _server_version(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]) if row else "?"


if __name__ == "__main__":
    main()
