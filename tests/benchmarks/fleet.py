"""Queued runs: what the queue costs, how soon effects are delivered, many workers, and one that is killed."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
import uuid
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import asyncpg

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.fleet.runs import Order, Request
from tests.benchmarks import fleet_flows
from tests.benchmarks.section import Goal, Section
from tests.benchmarks.setting import thread
from tests.benchmarks.tables import table
from tests.support.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.setting import Place

__all__ = ["run"]

_AT_ONCE = 20  # runs, of all workers together
_ACCOUNTS = 500
_OF_ONE, _OF_ALL = 0.7, 5.0
_SOON = 20.0
_LOOK = 0.005  # seconds between looks at what workers have noted
_UNENDED = "SELECT count(*) FROM runtime.queued_run WHERE ended_at IS NULL"
_SPAN = """
SELECT count(*) FILTER (WHERE state = 'completed'), extract(epoch FROM max(ended_at) - min(started_at))::float8
FROM runtime.queued_run WHERE nr > $1
"""
_number: ContextVar[int] = ContextVar("fleet_number", default=-1)  # of the flow in whose task this runs
_CONFLICTS = """
SELECT sum((stats ->> 'attempts')::int - 1 + (stats ->> 'repairs')::int)::float8 / count(*)
FROM runtime.checkpoint WHERE stats IS NOT NULL AND created_at > $1
"""


def _name(flow: str) -> str:
    return f"{fleet_flows.__name__}:{flow}"


async def run(place: Place) -> Section:
    """The section."""
    async with TransactionalSaver.from_conn_string(place.url, pool_max=_AT_ONCE) as saver:
        await saver.setup()
        speed, beside = await _speed(place, saver)
        soon, in_time = await _soon(place, saver)
        many = await _many(place, saver)
        killed, goes_on = await _killed(place, saver)
    return Section("\n".join((speed, soon, many, killed)), [beside, in_time, goes_on])


@contextmanager
def _workers(place: Place, flow: str, count: int, at_once: int) -> Iterator[tuple[Workers, Path]]:
    """Workers that have begun, and what they note."""
    with tempfile.TemporaryDirectory(prefix="superstep-fleet-") as folder:
        notes = Path(folder) / "notes"
        notes.touch()
        with Workers(place.url, _name(flow), **{fleet_flows.NOTES: str(notes)}) as workers:
            workers.start(count, "--concurrency", str(at_once))
            yield workers, notes


async def _ask(place: Place, sql: str, *args: object) -> Any:
    """In READ COMMITTED: a serializable look at all runs would be in the way of every commit."""
    conn = await asyncpg.connect(place.url)
    try:
        return await conn.fetchrow(sql, *args)
    finally:
        await conn.close()


async def _all_at_once(place: Place, saver: TransactionalSaver, flow: str, numbers: list[int]) -> float:
    """Submit runs in one transaction, and wait for their ends: runs a second, from the first start to the last end."""
    (before,) = await _ask(place, "SELECT COALESCE(max(nr), 0) FROM runtime.queued_run")
    orders = [Order(_name(flow), Request({"n": n})) for n in numbers]
    await saver.fleet.submit_all(orders)
    while (await _ask(place, _UNENDED))[0]:  # noqa: ASYNC110 - in other processes
        await asyncio.sleep(0.2)
    completed, seconds = await _ask(place, _SPAN, before)
    if completed != len(numbers):
        raise AssertionError(f"{completed} of {len(numbers)} runs have completed")
    return float(completed / seconds)


# -- what the queue costs --------------------------------------------------------------------------------------------


async def _speed(place: Place, saver: TransactionalSaver) -> tuple[str, Goal]:
    count, warm = place.size(10_000, 60), place.size(300, 10)
    flow = transactional(fleet_flows.idle.compile(checkpointer=saver), name="alone")
    await _alone(flow, warm)
    alone = await _alone(flow, count)
    with _workers(place, "idle", 2, _AT_ONCE // 2):
        await _all_at_once(place, saver, "idle", [0] * warm)
        queued = await _all_at_once(place, saver, "idle", [0] * count)
    got = queued / alone
    rows = [["one process, without a queue", alone, 1.0], ["two workers", queued, got]]
    text = (
        f"## Queued runs\n\n{count:,} flows of one node that does nothing, {_AT_ONCE} at once: by one process that has "
        f"them all, and by two workers (`runtime worker`) that take them from the queue, to which one transaction "
        f"submits them.\n\n"
    )
    goal = Goal(
        f"{count:,} queued flows on two workers, beside one process without a queue",
        f"{got:.2f} times ({queued:,.0f} and {alone:,.0f} flows/s)",
        f"{_OF_ONE} times",
        got >= _OF_ONE,
    )
    return text + table(["", "flows/s", "beside"], rows), goal


async def _alone(flow: Any, count: int) -> float:
    gc.collect()
    numbers = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in numbers:
            async for _ in flow.astream({"n": 0}, thread(str(uuid.uuid4())), stream_mode="updates"):
                pass

    began = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(_AT_ONCE)))
    return count / (time.perf_counter() - began)


# -- how soon effects are delivered ----------------------------------------------------------------------------------


async def _soon(place: Place, saver: TransactionalSaver) -> tuple[str, Goal]:
    rows = []
    with _workers(place, "emitting", 1, 10) as (_, notes):
        for name, at_once, each in (
            ("one at a time", 1, place.size(300, 5)),
            ("16 flows at once", 16, place.size(60, 2)),
        ):
            took = await _delays(saver, notes, at_once, each)
            rows.append([name, len(took), median(took), quantiles(took, n=100)[98]])
    text = (
        "\n## From COMMIT to the handler\n\nA flow of this process emits an effect; a worker that has nothing "
        "else to do delivers it. From the return of COMMIT to the first line of the handler.\n\n"
    )
    p50 = rows[0][2]
    goal = Goal(
        "from COMMIT of an effect to its handler, p50",
        f"{p50:.1f} ms (p99 {rows[0][3]:.0f} ms)",
        f"{_SOON:g} ms",
        p50 <= _SOON,
    )
    return text + table(["", "effects", "p50 ms", "p99 ms"], rows), goal


async def _delays(saver: TransactionalSaver, notes: Path, at_once: int, each: int) -> list[float]:
    """Milliseconds, one for each effect."""
    flow = transactional(fleet_flows.emitting.compile(checkpointer=saver), name=_name("emitting"))
    committed: dict[int, float] = {}
    came: dict[int, float] = {}
    with notes.open() as lines:
        lines.seek(0, os.SEEK_END)

        def look() -> None:
            for line in lines:
                _, n, at = line.split()
                came.setdefault(int(n), float(at))

        async def one_after_the_other(first: int) -> None:
            for n in range(first, first + each):
                _number.set(n)
                await flow.ainvoke({"n": n}, thread(str(uuid.uuid4())))
                while at_once == 1 and n not in came:
                    look()
                    await asyncio.sleep(_LOOK)

        async def note() -> None:
            committed[_number.get()] = time.monotonic()  # the latest commit of a flow is the one with its effect

        failpoints.arm("commit.committed", note)
        await asyncio.gather(*(one_after_the_other(at * each) for at in range(at_once)))
        failpoints.disarm("commit.committed")
        while len(came) < at_once * each:
            look()
            await asyncio.sleep(_LOOK)
    committed.pop(-1, None)
    return [(came[n] - committed[n]) * 1000 for n in committed]


# -- many workers ----------------------------------------------------------------------------------------------------


async def _many(place: Place, saver: TransactionalSaver) -> str:
    async with saver.transaction() as tx:
        await tx.execute(f"CREATE TABLE account AS SELECT id, 0 AS balance FROM generate_series(1, {_ACCOUNTS}) AS id")
        await tx.execute("ALTER TABLE account ADD PRIMARY KEY (id)")
    count = place.size(3_000, 40)
    numbers = [1 + at % _ACCOUNTS for at in range(count)]
    rows = []
    for workers in (1, place.size(8, 2)):
        with _workers(place, "drawing", workers, 10):
            await _all_at_once(place, saver, "drawing", numbers[: place.size(200, 10)])
            (now,) = await _ask(place, "SELECT clock_timestamp()")
            speed = await _all_at_once(place, saver, "drawing", numbers)
        (conflicts,) = await _ask(place, _CONFLICTS, now)
        rows.append([workers, speed, conflicts])
    text = (
        f"\n## Many workers\n\n{count:,} queued flows that each read one of {_ACCOUNTS} accounts and set what is "
        f"left of it. Each worker runs 10 at once. Client and server share the cores of this machine.\n\n"
    )
    return text + table(["workers", "flows/s", "conflicts a commit"], rows)


# -- one that is killed ----------------------------------------------------------------------------------------------


async def _killed(place: Place, saver: TransactionalSaver) -> tuple[str, Goal]:
    took = [await _until_it_goes_on(place, saver) for _ in range(place.size(5, 1))]
    text = (
        "\n## A worker is killed\n\nTwo workers with the default settings; the one that has a run is killed "
        "(`kill -9`) in its node. Until the node runs elsewhere:\n\n"
    )
    worst = max(took)
    goal = Goal(
        "from `kill -9` of a worker until its run goes on elsewhere",
        f"{worst:.1f} s at most",
        f"{_OF_ALL:g} s",
        worst <= _OF_ALL,
    )
    return text + table(["times", "median s", "longest s"], [[len(took), median(took), worst]]), goal


async def _until_it_goes_on(place: Place, saver: TransactionalSaver) -> float:
    with _workers(place, "lasting", 2, 10) as (workers, notes):
        await saver.fleet.submit(_name("lasting"), {"n": 0})
        pid, _ = await _line(notes, 0)
        await asyncio.sleep(1.0)
        began = time.monotonic()
        workers.kill(pid)
        _, at = await _line(notes, 1)
        return at - began


async def _line(notes: Path, at: int) -> tuple[int, float]:
    while len(lines := notes.read_text().splitlines()) <= at:  # noqa: ASYNC110, ASYNC240 - another process adds them
        await asyncio.sleep(_LOOK)
    _, pid, when = lines[at].split()
    return int(pid), float(when)
