"""Asynchronous and synchronous nodes, and what they await."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import NoActiveStep, StepConflict
from tests.support.bank import BALANCE, DEBIT, LOG, Bank
from tests.support.graphs import chain, steps_of
from tests.support.internals import from_thread, pinned
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


@pytest.mark.parametrize("wrap", [False, True])
async def test_sync_node_reads_and_writes_in_its_super_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    def node(state: Any) -> Any:
        step = current_step().sync
        rows = step.fetch("SELECT balance FROM account ORDER BY id")
        row = step.fetchrow(BALANCE, 1)
        step.stage(DEBIT, 1, expect_rows=1)
        assert row is not None
        return {"seen": [len(rows), row["balance"], step.fetchval(BALANCE, 2)]}

    graph = chain(saver, node)
    flow = transactional(graph) if wrap else graph
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == [5, 100, 100]
    assert await bank.balance() == 99


async def test_sync_node_that_conflicts_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 55)

    def node(state: Any) -> Any:
        return {"seen": [race.decide_sync()]}

    assert (await transactional(chain(saver, node)).ainvoke({"seen": []}, thread))["seen"] == [55]
    assert race.seen == [100, 55]
    assert await bank.balance() == 54


async def test_sync_step_on_the_loop_itself_is_refused(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        with pytest.raises(NoActiveStep):
            current_step().sync.fetchval(BALANCE, 1)
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    assert (await chain(saver, node).ainvoke({"seen": []}, thread))["seen"] == [100]


def test_invoke_without_a_loop_retries_conflicts(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    bank = Bank(sync_saver)
    race = Race(bank, 55)

    def first(state: Any) -> Any:
        return {"seen": [race.decide_sync()]}

    def second(state: Any) -> Any:
        return {"seen": [current_step().sync.fetchval(BALANCE, 1)]}

    flow = transactional(chain(sync_saver, first, second))
    assert flow.invoke({"seen": []}, thread)["seen"] == [55, 54]
    assert flow.get_state(thread).values["seen"] == [55, 54]
    assert len(list(flow.get_state_history(thread))) == 4
    assert pinned(sync_saver) == 0


def test_stream_without_a_loop_shows_a_retried_step_once(
    sync_saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    race = Race(Bank(sync_saver), 55)

    def first(state: Any) -> Any:
        return {"seen": [race.decide_sync()]}

    def second(state: Any) -> Any:
        return {"seen": [current_step().sync.fetchval(BALANCE, 1)]}

    flow = transactional(chain(sync_saver, first, second))
    chunks = list(flow.stream({"seen": []}, thread, stream_mode="updates"))
    assert chunks == [{"first": {"seen": [55]}}, {"second": {"seen": [54]}}]
    assert pinned(sync_saver) == 0


def test_stream_without_a_loop_can_be_left_early(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    def first(state: Any) -> Any:
        return {"seen": [current_step().sync.fetchval(BALANCE, 1)]}

    def second(state: Any) -> Any:
        return {"seen": [current_step().sync.fetchval(BALANCE, 2)]}

    flow = transactional(chain(sync_saver, first, second))
    for chunk in flow.stream({"seen": []}, thread, stream_mode="updates"):
        assert chunk == {"first": {"seen": [100]}}
        break
    assert flow.invoke(None, thread)["seen"] == [100, 100]
    assert pinned(sync_saver) == 0


def test_plain_graph_invoke_without_a_loop(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    """LangGraph's own synchronous loop: `get_tuple`, `put` and `put_writes` from its threads."""
    bank = Bank(sync_saver)
    race = Race(bank, 55)

    def first(state: Any) -> Any:
        return {"seen": [race.decide_sync()]}

    graph = chain(sync_saver, first)
    with pytest.raises(StepConflict):
        graph.invoke({"seen": []}, thread, durability="sync")
    assert graph.invoke(None, thread, durability="sync")["seen"] == [55]
    assert from_thread(sync_saver, bank.balance()) == 54
    assert list(graph.stream({"n": 1}, thread, stream_mode="updates", durability="sync")) == [{"first": {"seen": [54]}}]


async def test_functions_a_node_awaits_share_its_task(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def helper(account: int) -> int:
        step = current_step()
        step.stage(LOG, f"helper {account}")
        return int(await step.fetchval(BALANCE, account))

    async def node(state: Any) -> Any:
        together = await asyncio.gather(*(helper(i) for i in (1, 2, 3)))
        apart = await asyncio.create_task(helper(4))
        return {"seen": [*together, apart]}

    assert (await chain(saver, node).ainvoke({"seen": []}, thread))["seen"] == [100] * 4
    assert await bank.journal() == [f"helper {i}" for i in (1, 2, 3, 4)]
    (step,) = await steps_of(saver, thread)
    assert (step.nodes, step.reads, step.writes) == (["node"], 4, 4)


async def test_reads_of_gather_are_all_validated(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    race = Race(bank, 7, account=3)

    async def node(state: Any) -> Any:
        step = current_step()
        seen = await asyncio.gather(*(step.fetchval(BALANCE, i) for i in (1, 2, 3)))
        await race.move()
        step.stage("UPDATE account SET balance = $1 WHERE id = 3", sum(seen), expect_rows=1)
        return {"seen": seen}

    assert (await transactional(chain(saver, node)).ainvoke({"seen": []}, thread))["seen"] == [100, 100, 7]
    assert await bank.balance(3) == 207
