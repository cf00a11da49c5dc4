"""A conversation of a thousand turns on one thread: what a turn writes, how long it takes, and what it is to resume."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import asynccontextmanager
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import asyncpg
from langchain_core.messages import HumanMessage

from tests.benchmarks.chat import build
from tests.benchmarks.section import Curves, Goal, Section
from tests.benchmarks.setting import MEMORY, OURS, UPSTREAM, savers, thread
from tests.benchmarks.tables import number, ratio, rotated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.benchmarks.setting import Place

__all__ = ["run"]

_QUESTION = "What is the status of dispute {n}, and has the customer been told about it? " * 2
_EARLY = slice(5, 15)  # around the tenth turn
_LATE = slice(-20, None)


class Got:
    """What each turn took, by saver: milliseconds, and bytes of the server's log."""

    def __init__(self) -> None:
        self.ms: dict[str, list[float]] = defaultdict(list)
        self.bytes: dict[str, list[float]] = defaultdict(list)


async def run(place: Place) -> Section:
    """The section."""
    turns = place.size(1_000, 20)
    async with savers(place, 2) as contenders, _log_position(place.url) as written:
        graphs: dict[str, Any] = {name: build(saver) for name, saver in contenders.items()}
        got = await _converse(graphs, turns, written)
        resumed = await _resumed(graphs[OURS], contenders[OURS], turns)
    rows = [_written(got.bytes, turns), _timed(got.ms, turns), _resume(*resumed, turns)]
    return Section(
        f"## Storage that grows with what changed\n\n{turns:,} turns on one thread, `add_messages`, a question and an "
        f"answer in each turn. Bytes are those of the server's log, medians; in the mean are the turns in which the "
        f"whole conversation is written again, each time it has about doubled. The savers take turns, turn by turn. "
        f"Figures: in the table on top.\n",
        rows,
        [
            _curves("growth-bytes", "Bytes written in a turn", "KiB", got.bytes, 1024),
            _curves("growth-ms", "A turn", "ms", got.ms, 1),
        ],
    )


def _curves(name: str, title: str, unit: str, of: dict[str, list[float]], by: float) -> Curves:
    """Medians of 20 turns."""
    lines = {
        saver: [(at + 10, median(each[at : at + 20]) / by) for at in range(0, len(each) - 19, 20)]
        for saver, each in of.items()
        if any(each)
    }
    return Curves(name, title, "turn", unit, lines)


def _written(of: dict[str, list[float]], turns: int) -> Goal:
    early, late = (median(of[OURS][part]) for part in (_EARLY, _LATE))
    theirs = [median(of[UPSTREAM][part]) for part in (_EARLY, _LATE)]
    mean = fmean(of[OURS][turns // 2 :]) / fmean(of[OURS][_EARLY])
    return Goal(
        f"bytes written in a turn, at turn 10 and at turn {turns:,}",
        f"{early / 1024:.1f} and {late / 1024:.1f} KiB: {number(late / early)} times (the mean of the later half "
        f"{number(mean)} times); {UPSTREAM} {theirs[0] / 1024:.1f} and {theirs[1] / 1024:.1f} KiB",
        "2 times",
        late / early <= 2 and mean <= 2,
    )


def _timed(ms: dict[str, list[float]], turns: int) -> Goal:
    late = {name: each[_LATE] for name, each in ms.items()}
    shown = ", ".join(f"{name} {number(median(each))} ms" for name, each in late.items())
    beside = ratio(late[OURS], late[MEMORY])
    return Goal(
        f"a turn of a conversation, at turn {turns:,}",
        f"{number(beside)} times {MEMORY}, {number(ratio(late[OURS], late[UPSTREAM]))} times {UPSTREAM} ({shown})",
        "1.3 times InMemorySaver",
        beside <= 1.3,
    )


def _resume(grown: Sequence[float], whole: Sequence[float], turns: int) -> Goal:
    beside = ratio(grown, whole)
    return Goal(
        f"loading the thread of {turns:,} turns, beside one that was stored whole",
        f"{number(beside)} times ({number(median(grown))} and {number(median(whole))} ms)",
        "2 times",
        beside <= 2,
    )


async def _converse(graphs: dict[str, Any], turns: int, written: Callable[[], Any]) -> Got:
    got = Got()
    for turn in range(turns):
        for name in rotated(list(graphs), turn):
            question = HumanMessage(_QUESTION.format(n=turn))
            before = await written()
            started = time.perf_counter()
            await graphs[name].ainvoke({"messages": [question]}, thread(name), durability="sync")
            got.ms[name].append((time.perf_counter() - started) * 1000)
            got.bytes[name].append(float(await written() - before))
    return got


async def _resumed(graph: Any, saver: Any, turns: int) -> tuple[list[float], list[float]]:
    values = (await graph.aget_state(thread(OURS))).values
    await graph.aupdate_state(thread("whole"), values, as_node="answer")
    ms: dict[str, list[float]] = defaultdict(list)
    for _ in range(min(turns, 25)):
        for name in (OURS, "whole"):
            started = time.perf_counter()
            await saver.aget_tuple(thread(name))
            ms[name].append((time.perf_counter() - started) * 1000)
    return ms[OURS], ms["whole"]


@asynccontextmanager
async def _log_position(url: str) -> AsyncIterator[Callable[[], Any]]:
    """A function that says how many bytes of log the server has written."""
    conn = await asyncpg.connect(url)
    try:
        yield lambda: conn.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    finally:
        await conn.close()
