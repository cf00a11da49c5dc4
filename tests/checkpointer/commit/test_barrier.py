"""The barrier: direct and replay commit, repair, drift, races."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import (
    StepConflict,
)
from tests.support.bank import BALANCE, SET, Bank
from tests.support.graphs import chain, config_of, fan, steps_of
from tests.support.race import Race

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig


async def test_checkpoint_and_domain_write_commit_together(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        current_step().stage(SET, 7, 1, expect_rows=1)
        return {"n": 1}

    graph = chain(saver, node)

    async def arm_for_the_step() -> None:
        failpoints.disarm("commit.before_commit")
        failpoints.arm("commit.staged", boom)

    async def boom() -> None:
        failpoints.disarm("commit.staged")
        raise RuntimeError("the process dies here")

    failpoints.arm("commit.before_commit", arm_for_the_step)  # the input's commit
    with pytest.raises(RuntimeError, match="dies here"):
        await graph.ainvoke({"n": 0}, thread, durability="sync")
    assert await bank.balance() == 100
    assert (await graph.aget_state(thread)).values["n"] == 0
    assert (await graph.ainvoke(None, thread, durability="sync"))["n"] == 1
    assert await bank.balance() == 7
    (step,) = await steps_of(saver, thread)
    assert step.writes == 1


async def test_an_unrelated_conflict_is_repaired_and_nothing_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The row changed and changed back: Postgres must abort the transaction, the facts are the same."""
    runs = 0

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await bank.set(1)
        await bank.set(100)
        step.stage("UPDATE account SET balance = balance + 5 WHERE id = 1", expect_rows=1)
        return {"n": value}

    assert (await chain(saver, node).ainvoke({}, thread))["n"] == 100
    assert runs == 1
    assert await bank.balance() == 105
    (step,) = await steps_of(saver, thread)
    assert (step.attempts, step.repairs, step.drifts, step.commit) == (1, 1, 0, "replay")


async def test_only_the_drifted_task_runs_again(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    race = Race(bank, 60)
    runs: list[str] = []

    def reader(account: int) -> Any:
        async def node(state: Any) -> Any:
            runs.append(f"r{account}")
            step = current_step()
            value = await step.fetchval(BALANCE, account)
            if account == 1:
                await race.move()
            step.stage("UPDATE account SET balance = balance - 10 WHERE id = $1", account, expect_rows=1)
            return {"seen": [[account, value]]}

        node.__name__ = f"r{account}"
        return node

    thread = new_thread()
    flow = transactional(fan(saver, reader(1), reader(2), reader(3)))
    result = await flow.ainvoke({"seen": []}, thread)
    assert sorted(runs) == ["r1", "r1", "r2", "r3"]
    assert result["seen"] == [[1, 60], [2, 100], [3, 100]]
    assert [await bank.balance(i) for i in (1, 2, 3)] == [50, 90, 90]
    (step,) = await steps_of(saver, thread)
    assert (step.attempts, step.drifts, step.nodes) == (2, 1, ["r1", "r2", "r3"])
    assert (step.reads, step.writes) == (3, 3)


@pytest.mark.parametrize("hold_idle", [0])
async def test_facts_that_changed_while_the_connection_was_given_back_are_noticed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 40)

    async def node(state: Any) -> Any:
        balance = await race.read()
        current_step().stage(SET, balance - 30, 1, expect_rows=1)

    await transactional(chain(saver, node)).ainvoke({}, thread)
    assert race.seen == [100, 40]
    assert await bank.balance() == 10


async def test_write_skew_is_impossible(saver: TransactionalSaver, bank: Bank) -> None:
    """Two flows each read both accounts and take from one, if the sum allows: the classic anomaly of snapshots."""
    both_have_read = asyncio.Barrier(2)
    waited: set[int] = set()

    def taker(account: int) -> Any:
        async def node(state: Any) -> Any:
            step = current_step()
            total = await step.fetchval("SELECT sum(balance) FROM account WHERE id IN (1, 2)")
            if account not in waited:
                waited.add(account)
                await both_have_read.wait()
            if total >= 150:
                step.stage("UPDATE account SET balance = balance - 100 WHERE id = $1", account, expect_rows=1)
            return {"n": int(total)}

        return node

    flows = [transactional(chain(saver, taker(account))) for account in (1, 2)]
    await asyncio.gather(*(flow.ainvoke({}, config_of(str(i))) for i, flow in enumerate(flows)))
    assert sorted([await bank.balance(1), await bank.balance(2)]) == [0, 100]


async def test_twenty_flows_racing_on_one_account(saver: TransactionalSaver, bank: Bank) -> None:
    start = asyncio.Barrier(20)
    waited: set[str] = set()

    async def draw(state: Any, config: RunnableConfig) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        if (thread := config["configurable"]["thread_id"]) not in waited:
            waited.add(thread)
            await start.wait()
        step.stage(SET, balance - 5, 1, expect_rows=1)

    flow = transactional(chain(saver, draw))
    await asyncio.gather(*(flow.ainvoke({}, config_of(f"t{i}")) for i in range(20)))
    assert await bank.balance() == 0


async def test_plain_langgraph_raises_the_conflict_and_can_go_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 20)

    async def node(state: Any) -> Any:
        balance = await race.read()
        current_step().stage(SET, balance - 20, 1)
        return {"n": balance}

    graph = chain(saver, node)
    with pytest.raises(StepConflict) as caught:
        await graph.ainvoke({}, thread)
    assert (caught.value.tasks, caught.value.attempts) == (("node",), 1)
    assert (await graph.ainvoke(None, thread))["n"] == 20
    assert await bank.balance() == 0
