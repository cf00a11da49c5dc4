"""Connections of the pool: given back in time, shared while nodes think."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ReadFailed, StepConflict
from tests.support.bank import BALANCE, Bank, make_bank
from tests.support.graphs import chain, config_of
from tests.support.internals import assert_nothing_pinned, pinned
from tests.support.race import Race

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from langchain_core.runnables import RunnableConfig


async def test_idle_steps_yield_to_us_when_others_took_the_rest_of_a_shared_pool(
    database_url: str, new_thread: Callable[[], RunnableConfig]
) -> None:
    async with asyncpg.create_pool(database_url, min_size=0, max_size=2) as pool:
        saver = TransactionalSaver(pool, hold_idle="forever")
        await make_bank(saver)
        both = asyncio.Barrier(2)

        async def node(state: Any) -> Any:
            await current_step().fetchval(BALANCE, 1)
            await both.wait()
            return {"n": 1}

        async with pool.acquire(), asyncio.timeout(20):
            graph = chain(saver, node)
            await asyncio.gather(*(graph.ainvoke({"n": 0}, new_thread()) for _ in range(2)))
        await saver.aclose()


async def test_many_thinking_steps_share_one_connection(database_url: str) -> None:
    """No connection while thinking: steps in flight outnumber connections, and none waits for ever."""
    async with TransactionalSaver.from_conn_string(database_url, pool_max=1, hold_idle="forever") as saver:
        await make_bank(saver)
        everybody = asyncio.Barrier(30)

        async def node(state: Any) -> Any:
            step = current_step()
            first = await step.fetchval(BALANCE, 1)
            await everybody.wait()  # all thirty have read and think at the same time
            step.stage("INSERT INTO journal (line) VALUES ($1)", str(first))
            return {"seen": [first, await step.fetchval(BALANCE, 2)]}

        graph = chain(saver, node)
        async with asyncio.timeout(30):
            await asyncio.gather(*(graph.ainvoke({"seen": []}, config_of(f"t{i}")) for i in range(30)))
        async with saver.transaction() as tx:
            assert await tx.fetchval("SELECT count(*) FROM journal") == 30


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("hold_idle", [0])
async def test_a_conflict_in_the_middle_of_a_node_gives_its_connection_back(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    race = Race(bank, 55)

    async def node(state: Any) -> Any:
        first = await race.read()
        await current_step().fetchval(BALANCE, 2)
        return {"seen": [first]}

    graph = chain(saver, node)
    if wrap:
        assert (await transactional(graph).ainvoke({"seen": []}, thread))["seen"] == [55]
    else:
        with pytest.raises(StepConflict):
            await graph.ainvoke({"seen": []}, thread)
    assert_nothing_pinned(saver)


async def test_a_rejected_read_does_not_keep_its_connection(database_url: str, thread: RunnableConfig) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0, pool_max=1) as saver:
        await make_bank(saver)
        held: list[int] = []

        async def node(state: Any) -> Any:
            with pytest.raises(ReadFailed):
                await current_step().fetch("SELECT 1 / 0")
            held.append(pinned(saver))

        await chain(saver, node).ainvoke({"seen": []}, thread)
        assert held == [0]


@pytest.fixture
async def learned(database_url: str) -> AsyncIterator[TransactionalSaver]:
    """One connection, and it is known that super-steps go on at once after a read of a balance."""
    async with TransactionalSaver.from_conn_string(database_url, pool_max=1, hold_idle="forever") as saver:
        await make_bank(saver)
        for _ in range(8):
            saver.database.connections.pauses.note(BALANCE, 0.0001)
        yield saver


async def test_what_goes_on_at_once_keeps_its_connection_although_others_wait(learned: TransactionalSaver) -> None:
    async def node(_: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage("INSERT INTO journal (line) VALUES ($1)", str(balance))
        return {"n": balance}

    graph = chain(learned, node)
    async with asyncio.timeout(30):
        await asyncio.gather(*(graph.ainvoke({"n": 0}, config_of(f"t{at}")) for at in range(10)))
    kinds = [step.commit for at in range(10) for step in await learned.asteps(f"t{at}")]
    assert kinds.count("direct") >= 8  # all, unless the machine stops for longer than that moment


@pytest.mark.parametrize("first", ["waits already", "comes later"])
async def test_one_that_thinks_this_time_gives_it_up_after_that_moment(learned: TransactionalSaver, first: str) -> None:
    """The other one waits for the connection, since before that moment or not; the first one waits for the other."""
    committed, has_read = asyncio.Event(), asyncio.Event()

    async def thinks(_: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        has_read.set()
        await committed.wait()
        current_step().stage("INSERT INTO journal (line) VALUES ($1)", str(balance))
        return {"n": balance}

    async def other(_: Any) -> Any:
        if first == "comes later":
            await has_read.wait()
        return {"n": await current_step().fetchval(BALANCE, 2)}

    async def run_other() -> None:
        await chain(learned, other).ainvoke({"n": 0}, config_of("other"))
        committed.set()

    async with asyncio.timeout(30):
        await asyncio.gather(chain(learned, thinks).ainvoke({"n": 0}, config_of("thinks")), run_other())
    (step,) = await learned.asteps("thinks")
    assert (step.commit, step.drifts) == ("replay", 0)


async def test_one_that_pauses_shortly_and_often_does_not_keep_it_from_others(learned: TransactionalSaver) -> None:
    """It reads for as long as the other one has not."""
    over = asyncio.Event()

    async def busy(_: Any) -> Any:
        while not over.is_set():
            await current_step().fetchval(BALANCE, 1)
            await asyncio.sleep(0)
        return {"n": 1}

    async def other(_: Any) -> Any:
        await current_step().fetchval(BALANCE, 2)
        over.set()
        return {"n": 1}

    async with asyncio.timeout(30):
        await asyncio.gather(*(chain(learned, node).ainvoke({"n": 0}, config_of(str(node))) for node in (busy, other)))
