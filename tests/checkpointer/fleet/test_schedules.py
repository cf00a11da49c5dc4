"""Each time of a schedule is submitted once, whoever looks, and whatever the clock does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from superstep.checkpointer import Request, Schedule, TransactionalSaver
from superstep.runtime.faults import ConfigError
from tests.checkpointer.fleet.conftest import GRAPH

if TYPE_CHECKING:
    from tests.checkpointer.fleet.conftest import Claim

EVERY = Schedule("s", GRAPH, "* * * * *", catch_up="all", tenant="acme")


async def set_next(saver: TransactionalSaver, moment: str) -> None:
    async with saver.transaction() as tx:
        await tx.execute(f"UPDATE runtime.run_schedule SET next_tick = date_trunc('minute', now()) {moment}")


async def test_a_time_is_submitted_once_by_many(saver: TransactionalSaver, claim: Claim, database_url: str) -> None:
    first = await saver.schedules.add(EVERY, Request({"n": 1}, {"tags": ["t"]}))
    assert datetime.now(UTC) < first <= datetime.now(UTC) + timedelta(minutes=1)
    assert await saver.schedules.submit_due() == 0
    await set_next(saver, "- interval '2 minutes'")
    async with TransactionalSaver.from_conn_string(database_url) as other:
        await asyncio.gather(*(each.schedules.submit_due() for each in (saver, other) for _ in range(5)))
    runs = await saver.fleet.runs()
    ticks = sorted(run.tick for run in runs if run.tick)
    assert len(ticks) == len(set(ticks)) >= 3
    assert {(run.schedule, run.tenant, run.graph) for run in runs} == {("s", "acme", GRAPH)}
    assert len({run.thread_id for run in runs}) == len(runs)
    (run,) = await claim()
    assert saver.fleet.request(run, saver.serde) == Request({"n": 1}, {"tags": ["t"]})
    (left,) = await saver.schedules.list()
    assert left.next_tick is not None
    assert left.next_tick > datetime.now(UTC) - timedelta(seconds=1)


async def test_one_that_another_worker_is_submitting_is_left_to_it(
    saver: TransactionalSaver, database_url: str
) -> None:
    await saver.schedules.add(EVERY, Request({}))
    await set_next(saver, "")
    rival = await asyncpg.connect(database_url)
    try:
        async with rival.transaction():
            await rival.fetch("SELECT FROM runtime.run_schedule FOR UPDATE")
            assert await saver.schedules.submit_due() == 0
    finally:
        await rival.close()
    assert await saver.schedules.submit_due() == 1


async def test_a_clock_that_is_put_back_neither_doubles_nor_stops_it(saver: TransactionalSaver) -> None:
    await saver.schedules.add(EVERY, Request({}))
    await set_next(saver, "")
    await saver.schedules.submit_due()
    count = len(await saver.fleet.runs())
    await set_next(saver, "")  # the same minute comes again
    await saver.schedules.submit_due()
    assert len(await saver.fleet.runs()) - count <= 1  # a new minute may have begun
    assert len({run.tick for run in await saver.fleet.runs()}) == len(await saver.fleet.runs())
    await set_next(saver, "+ interval '3 days'")
    await saver.schedules.draw_near()
    (schedule,) = await saver.schedules.list()
    assert schedule.next_tick is not None
    assert schedule.next_tick < datetime.now(UTC) + timedelta(minutes=2)


async def test_what_is_none_is_refused_and_nothing_is_stored(saver: TransactionalSaver) -> None:
    for expression, zone, catch_up in (("0 0 30 2 *", "UTC", "one"), ("x", "UTC", "one"), ("* * * * *", "UTC", "some")):
        with pytest.raises(ConfigError):
            await saver.schedules.add(Schedule("s", GRAPH, expression, zone, catch_up), Request({}))
    assert await saver.schedules.list() == []
    await saver.schedules.add(EVERY, Request({}))
    with pytest.raises(ConfigError, match="already"):
        await saver.schedules.add(EVERY, Request({}))
    assert await saver.schedules.remove("s")
    assert not await saver.schedules.remove("s")


async def test_one_that_cannot_be_told_here_keeps_no_other_from_its_time(
    saver: TransactionalSaver, caplog: pytest.LogCaptureFixture
) -> None:
    """A zone that this machine does not know, a request of another key."""
    for name in ("a", "b", "c"):
        await saver.schedules.add(Schedule(name, GRAPH, "* * * * *"), Request({}))
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.run_schedule SET timezone = 'Mars/Olympus' WHERE name = 'a'")
        await tx.execute("UPDATE runtime.run_schedule SET kind = 'msgpack+aes' WHERE name = 'b'")
    await set_next(saver, "")
    schedules = saver.schedules
    for _ in range(2):
        await schedules.submit_due()
    assert {run.schedule for run in await saver.fleet.runs()} == {"c"}
    assert [record.args[0] for record in caplog.records if record.args] == ["a", "b"]  # once each
    await set_next(saver, "+ interval '3 days'")
    await schedules.draw_near()
    near = {each.name: each.next_tick for each in await schedules.list() if each.next_tick}
    assert near["c"] < near["a"]
