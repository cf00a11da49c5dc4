"""Durability modes: a commit in the background holds back the reads behind it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import StagedWriteFailed, StepConflict
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import chain, config_of, fan, steps_of
from tests.support.internals import pinned
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


@pytest.mark.parametrize("how", [{"durability": "exit"}, {"checkpoint_during": False}], ids=["word", "old word"])
@pytest.mark.filterwarnings("ignore:.checkpoint_during. is deprecated")
async def test_a_flow_takes_durability_exit_as_more_than_it_asks_for(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, how: Any
) -> None:
    race = Race(bank, 55)

    async def first(state: Any) -> Any:
        current_step().stage(LOG, "first")
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        return {"seen": [await race.decide()]}

    flow = transactional(chain(saver, first, second))
    assert (await flow.ainvoke({"seen": []}, thread, **how))["seen"] == ["first", 55]
    assert await bank.journal() == ["first"]
    assert [step.nodes for step in await steps_of(saver, thread)] == [["first"], ["second"]]


async def test_first_read_waits_for_the_commit_before_it_under_async_durability(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    order: list[str] = []
    second_runs = asyncio.Event()

    async def hold_back() -> None:
        if "first" in order and "committed" not in order:
            async with asyncio.timeout(10):
                await second_runs.wait()
            assert await bank.balance() == 100  # round trips, during which the second node's read could slip through
            order.append("committed")

    async def first(state: Any) -> Any:
        current_step().stage("UPDATE account SET balance = 1 WHERE id = 1", expect_rows=1)
        order.append("first")

    async def second(state: Any) -> Any:
        second_runs.set()
        value = await current_step().fetchval(BALANCE, 1)
        order.append("read")
        return {"seen": [value]}

    failpoints.arm("commit.before_commit", hold_back)
    result = await chain(saver, first, second).ainvoke({"seen": []}, thread, durability="async")
    assert result["seen"] == [1]
    assert order == ["first", "committed", "read"]


async def test_failing_commit_fails_the_next_step_and_the_run_under_async_durability(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    reached: list[str] = []
    amount = [1000]
    second_runs = asyncio.Event()

    async def hold_back() -> None:
        if "first" in reached and not second_runs.is_set():
            async with asyncio.timeout(10):
                await second_runs.wait()

    async def first(state: Any) -> Any:
        reached.append("first")
        current_step().stage("UPDATE account SET balance = balance - $1 WHERE id = 1", amount[0], expect_rows=1)

    async def second(state: Any) -> Any:
        second_runs.set()
        reached.append("second")
        value = await current_step().fetchval(BALANCE, 1)
        reached.append("read")
        return {"seen": [value]}

    failpoints.arm("commit.begun", hold_back)
    graph = chain(saver, first, second)
    with pytest.raises(StagedWriteFailed) as caught:
        await graph.ainvoke({"seen": []}, thread, durability="async")
    assert (caught.value.task, caught.value.sqlstate) == ("first", "23514")
    assert reached == ["first", "second"]
    assert await bank.balance() == 100
    amount[0] = 1
    assert (await graph.ainvoke(None, thread, durability="async"))["seen"] == [99]
    assert reached == ["first", "second", "first", "second", "read"]
    assert pinned(saver) == 0


async def test_conflict_under_async_durability_reruns_the_drifted_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 55)
    runs: list[str] = []

    async def first(state: Any) -> Any:
        value = await race.decide()
        runs.append("first")
        return {"seen": [value]}

    async def second(state: Any) -> Any:
        value = await current_step().fetchval(BALANCE, 1)
        runs.append("second")
        return {"seen": [value]}

    graph = chain(saver, first, second)
    with pytest.raises(StepConflict):
        await graph.ainvoke({"seen": []}, thread, durability="async")
    assert (await graph.ainvoke(None, thread, durability="async"))["seen"] == [55, 54]
    assert runs == ["first", "first", "second"]
    flow = transactional(fan(saver, first))
    assert (await flow.ainvoke({"seen": []}, config_of("x"), durability="async"))["seen"] == [54]
