"""`python -m tests.benchmarks [NAME ...] [--quick] [--db URL] [--out FILE]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import psycopg

from tests.benchmarks import plots_side
from tests.benchmarks.peers import environment
from tests.benchmarks.section import Curves, goals_of
from tests.benchmarks.setting import benchmark_place

_NAMES = ("loop", "chat", "race", "contention", "growth", "million", "round_trips", "vectors", "routing")
MATPLOTLIB = "3.11.2"
_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main() -> None:
    """Run, print, and write the page with its plots if everything was run."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Side-by-side benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ({', '.join(_NAMES)}); all if none is named")
    parser.add_argument("--quick", action="store_true", help="only see that they work; the figures mean nothing")
    parser.add_argument("--db", help="URL of a server to use instead of an embedded one")
    parser.add_argument("--out", type=Path, help="where to write (default: docs/benchmarks.md if all were run in full)")
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
    out = given.out or (None if given.names or given.quick else _PAGE)
    if out is not None:
        plots = out.with_suffix("")
        out.parent.mkdir(exist_ok=True)
        pages = [section.page(plots.name) for section in sections]
        out.write_text("\n".join([_title(server), goals, *pages]), encoding="utf-8")
        _draw([curves for section in sections for curves in section.curves], plots)


def _draw(curves: list[Curves], folder: Path) -> None:
    python = environment(f"matplotlib-{MATPLOTLIB}", lambda pip, _: pip(f"matplotlib=={MATPLOTLIB}"))
    given = json.dumps([each.plain() for each in curves])
    subprocess.run([python, plots_side.__file__, folder], input=given, text=True, check=True)


def _title(server: str) -> str:
    packages = ("langgraph", "langgraph-checkpoint-postgres", "asyncpg", "psycopg")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        "# Benchmarks\n\nWritten by `make bench`. Contenders take turns within one run; figures are medians, ratios "
        "are medians of the ratios of neighbouring turns. Compare within a table only: another machine, or a busier "
        f"one, gives other figures and about the same ratios.\n\nPython {platform.python_version()}, {versions}, "
        f"PostgreSQL {server} with `fsync` on; client and server share {os.cpu_count()} cores ({platform.machine()}).\n"
    )


def _server_version(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]) if row else "?"


if __name__ == "__main__":
    main()
