"""One snapshot per super-step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ReadFailed, StepConflict
from tests.support.bank import BALANCE, LOG, Bank
from tests.support.graphs import chain, fan, steps_of
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


async def test_parallel_tasks_see_one_state_although_it_changes_between_their_reads(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    first_has_read = asyncio.Event()

    async def early(state: Any) -> Any:
        value = await current_step().fetchval(BALANCE, 1)
        await bank.set(55)
        first_has_read.set()
        return {"seen": [value]}

    async def late(state: Any) -> Any:
        await first_has_read.wait()
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    # Nothing is written, so the snapshot of both reads is a valid place in the serial order: before the change.
    result = await fan(saver, early, late).ainvoke({"seen": []}, thread)
    assert result["seen"] == [100, 100]


@pytest.mark.parametrize("hold_idle", [0, "forever"])
async def test_snapshot_is_the_same_whether_the_transaction_is_held_or_given_back(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, hold_idle: float | str
) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        seen = [await step.fetchval(BALANCE, 1)]
        await bank.set(55, account=2)  # not read so far: the snapshot may move past it
        seen.append(await step.fetchval(BALANCE, 2))
        step.stage("UPDATE account SET balance = balance + 1 WHERE id = 3", expect_rows=1)
        return {"seen": seen}

    result = await chain(saver, node).ainvoke({"seen": []}, thread)
    assert result["seen"] == ([100, 55] if hold_idle == 0 else [100, 100])
    assert await bank.balance(3) == 101
    steps = await steps_of(saver, thread)
    assert [s.commit for s in steps] == (["replay"] if hold_idle == 0 else ["direct"])


@pytest.mark.parametrize("hold_idle", [0])
async def test_a_task_whose_facts_moved_stops_at_its_next_read_and_pays_nothing_more(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 1)
    reached: list[str] = []

    async def node(state: Any) -> Any:
        await race.read()
        reached.append("before")
        await current_step().fetchval(BALANCE, 2)
        reached.append("after")

    with pytest.raises(StepConflict) as caught:
        await chain(saver, node).ainvoke({"seen": []}, thread)
    assert caught.value.tasks == ("node",)
    assert reached == ["before"]


@pytest.mark.parametrize("hold_idle", [0])
async def test_sibling_of_a_drifted_task_goes_on_in_the_newer_snapshot(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    drifting_has_read = asyncio.Event()
    runs: list[str] = []

    async def drifting(state: Any) -> Any:
        runs.append("drifting")
        value = await current_step().fetchval(BALANCE, 1)
        drifting_has_read.set()
        return {"seen": [("drifting", value)]}

    async def steady(state: Any) -> Any:
        runs.append("steady")
        step = current_step()
        await step.fetchval(BALANCE, 2)
        await drifting_has_read.wait()
        await bank.set(7, account=1)
        return {"seen": [("steady", await step.fetchval(BALANCE, 3))]}

    graph = fan(saver, drifting, steady)
    with pytest.raises(StepConflict) as caught:
        await graph.ainvoke({"seen": []}, thread)
    assert caught.value.tasks == ("drifting",)
    result = await graph.ainvoke(None, thread)
    assert sorted(runs) == ["drifting", "drifting", "steady"]
    assert [list(pair) for pair in result["seen"]] == [["drifting", 7], ["steady", 100]]


@pytest.mark.parametrize("hold_idle", [0, 0.25])
async def test_what_reads_set_holds_for_the_reads_after_them(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The same question under two settings, and one after a read that was rejected. Replayed, it is asked in order."""
    runs: list[list[Any]] = []
    mine = "SELECT balance FROM account WHERE id = current_setting('app.account')::int"

    async def node(state: Any) -> Any:
        step = current_step()
        got: list[Any] = []
        for account in ("2", "3", "2"):
            await step.fetchval("SELECT set_config('app.account', $1, true)", account)
            got.append(await step.fetchval(mine))
        with pytest.raises(ReadFailed):
            await step.fetchval("SELECT 1 / 0")
        got.append(await step.fetchval(mine + " AND note IS NULL"))
        step.stage(LOG, "done")
        runs.append(got)
        return {}

    await bank.set(7, 3)
    await transactional(chain(saver, node)).ainvoke({}, thread)
    assert runs == [[100, 7, 100, 100]]
    assert await bank.journal() == ["done"]
