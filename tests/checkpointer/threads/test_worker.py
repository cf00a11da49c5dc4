"""Who runs a thread: known while it runs, asked by those who want to ask."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command, interrupt

from superstep import Settings, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database import retry
from superstep.checkpointer.threads import endings, taking, worker
from superstep.checkpointer.threads.liveness import LEASE
from superstep.runtime.faults import DatabaseUnavailable, StaleRun, ThreadBusy
from tests.support.graphs import chain
from tests.support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

ASKS = Settings(take_over=False)


class Gated:
    """A flow with a node that waits."""

    def __init__(self) -> None:
        self.started, self.go_on = asyncio.Event(), asyncio.Event()

    async def node(self, state: Any) -> Any:
        self.started.set()
        await self.go_on.wait()
        return {"n": 1}

    @asynccontextmanager
    async def running(self, saver: TransactionalSaver, thread: RunnableConfig) -> AsyncIterator[asyncio.Task[Any]]:
        run = asyncio.create_task(transactional(chain(saver, self.node)).ainvoke({"n": 0}, thread))
        await self.started.wait()
        try:
            yield run
        finally:
            self.go_on.set()
            await asyncio.wait([run])
            if not run.cancelled():
                with suppress(StaleRun):
                    run.result()


async def quick(state: Any) -> Any:
    return {"n": 2}


def asking(saver: TransactionalSaver) -> Any:
    """A flow of another process, here of another saver, that asks before it takes a thread."""
    return transactional(chain(saver, quick), settings=ASKS)


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        yield saver


async def runner(saver: TransactionalSaver, thread: RunnableConfig) -> Any:
    summary = await saver.athread(thread["configurable"]["thread_id"])
    assert summary is not None
    return summary.runner


async def test_it_is_known_who_runs_a_thread_and_since_when(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    before = datetime.now(UTC)
    async with Gated().running(saver, thread):
        found = await runner(saver, thread)
        assert (found.pid, found.host) == (os.getpid(), platform.node())
        assert abs((found.since - before).total_seconds()) < 30
        assert found.silent < LEASE
    assert await runner(saver, thread) is None


async def test_a_run_that_asks_does_not_take_a_thread_from_a_live_one(
    saver: TransactionalSaver, other: TransactionalSaver, thread: RunnableConfig
) -> None:
    async with Gated().running(saver, thread):
        with pytest.raises(ThreadBusy, match=rf"process {os.getpid()} on .*since \d{{4}}-"):
            await asking(other).ainvoke(None, thread)
    assert (await asking(other).ainvoke({"n": 0}, thread))["n"] == 2  # which is over now


async def test_a_run_that_does_not_ask_takes_it_and_is_the_one_that_runs_it_then(
    saver: TransactionalSaver, other: TransactionalSaver, thread: RunnableConfig
) -> None:
    first, second = Gated(), Gated()
    async with first.running(saver, thread) as lost:
        async with second.running(other, thread):
            first.go_on.set()
            with pytest.raises(StaleRun):
                await lost
            assert await runner(saver, thread) is not None  # the ending of the first says nothing of the second
        assert await runner(saver, thread) is None


async def test_no_ending_of_a_run_leaves_its_thread_busy(
    saver: TransactionalSaver, other: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def asks(state: Any) -> Any:
        return {"n": interrupt("?")}

    async def fails(state: Any) -> Any:
        raise ValueError("no")

    flow = transactional(chain(saver, asks))
    await flow.ainvoke({"n": 0}, thread)
    assert await runner(saver, thread) is None
    await transactional(chain(other, asks), settings=ASKS).ainvoke(Command(resume=5), thread)

    with pytest.raises(ValueError, match="no"):
        await transactional(chain(saver, fails)).ainvoke({"n": 0}, thread)
    assert await runner(saver, thread) is None

    gated = Gated()
    async with gated.running(saver, thread) as run:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run
        assert await runner(saver, thread) is None


async def test_a_change_from_outside_ends_it_too(
    saver: TransactionalSaver, other: TransactionalSaver, thread: RunnableConfig
) -> None:
    async with Gated().running(saver, thread):
        await chain(other, quick).aupdate_state(thread, {"n": 9}, as_node="quick")
        assert await runner(saver, thread) is None


async def test_runs_that_never_say_that_they_are_over_are_not_said_to_run(
    saver: TransactionalSaver, other: TransactionalSaver, thread: RunnableConfig
) -> None:
    await chain(saver, quick).ainvoke({"n": 0}, thread)
    assert await runner(saver, thread) is None
    assert (await asking(other).ainvoke({"n": 0}, thread))["n"] == 2


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        return ended.pid


@pytest.mark.parametrize(
    ("change", "is_busy"),
    [
        ("pid = {gone}", False),  # killed
        ("mark = '1'", False),  # killed, and its number given to another process
        ("machine = 'another', pid = {gone}", True),
        (f"machine = 'another', seen_at = now() - interval '{LEASE + 1} s'", False),
        (f"seen_at = now() - interval '{LEASE + 1} s'", True),  # its event loop hangs, but the process is here
    ],
)
async def test_what_a_worker_that_is_gone_was_running_is_taken_at_once(
    saver: TransactionalSaver,
    other: TransactionalSaver,
    bank: Bank,
    thread: RunnableConfig,
    gone: int,
    change: str,
    is_busy: bool,
) -> None:
    async with Gated().running(saver, thread):
        await bank.do(f"UPDATE runtime.worker SET {change.format(gone=gone)}")
        if is_busy:
            with pytest.raises(ThreadBusy):
                await asking(other).ainvoke(None, thread)
        else:
            assert await runner(saver, thread) is None
            await asking(other).ainvoke({"n": 0}, thread)


async def test_of_two_that_ask_at_once_one_gets_the_thread(
    saver: TransactionalSaver, other: TransactionalSaver, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked before either takes it."""
    both_have_looked, look, gated = asyncio.Barrier(2), taking._found_at, Gated()
    first_looks = [2]

    async def found_at(*args: Any) -> Any:
        found = await look(*args)
        if first_looks[0]:
            first_looks[0] -= 1
            await both_have_looked.wait()
        return found

    monkeypatch.setattr(taking, "_found_at", found_at)
    runs = [
        asyncio.create_task(transactional(chain(each, gated.node), settings=ASKS).ainvoke({"n": 0}, thread))
        for each in (saver, other)
    ]
    done, (winner,) = await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    assert [type(each.exception()) for each in done] == [ThreadBusy]
    gated.go_on.set()
    assert (await winner)["n"] == 1


async def test_signs_of_life_come_while_it_runs_and_the_row_goes_with_the_saver(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BEAT", 0.01)
    seen = "SELECT worker_id, seen_at FROM runtime.worker"
    async with TransactionalSaver.from_conn_string(database_url) as mine, Gated().running(mine, thread):
        first = await bank.do(seen)
        assert len(first) == 1
        async with asyncio.timeout(20):
            while (now := await bank.do(seen)) == first:  # noqa: ASYNC110 - it happens in the database
                await asyncio.sleep(0.01)
        assert now[0]["worker_id"] == first[0]["worker_id"]
        forget = "DELETE FROM runtime.worker"  # as a database that was restored would
        await saver.database.autocommit(lambda conn: conn.execute(forget))
        async with asyncio.timeout(20):
            while not await bank.do(seen):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.01)
    assert await bank.do(seen) == []


async def test_an_outage_that_ends_a_run_leaves_a_free_thread(
    database_url: str, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the run has ended is recorded when the database is back. Its process lives on."""
    monkeypatch.setattr(retry, "_OUTAGE", 0.2)
    monkeypatch.setattr(endings, "_AGAIN", 0.01)
    proxy = TcpProxy(database_url)
    async with proxy.running(), TransactionalSaver.from_conn_string(proxy.url) as saver:

        async def is_cut_off(state: Any) -> Any:
            proxy.refuses = True
            proxy.cut()
            return {"n": 1}

        with pytest.raises(DatabaseUnavailable):
            await transactional(chain(saver, is_cut_off)).ainvoke({"n": 0}, thread)
        async with TransactionalSaver.from_conn_string(database_url) as elsewhere:
            name = thread["configurable"]["thread_id"]
            assert await elsewhere.arunner(name) is not None  # as far as can be known
            proxy.refuses = False
            async with asyncio.timeout(30):
                while await elsewhere.arunner(name):
                    pass
            flow = transactional(chain(elsewhere, quick), settings=ASKS)
            assert (await flow.ainvoke({"n": 5}, thread))["n"] == 2
