"""Facts at the grain of the decision: rows, a condition, or no fact at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import current_step
from superstep.runtime.faults import ReadFailed, ReadRefused, StepConflict
from tests.support.bank import BALANCE, DEBIT, SET
from tests.support.graphs import chain, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank

ENOUGH = "SELECT balance >= $2 FROM account WHERE id = $1"
DRAW = "UPDATE account SET balance = balance - $2 WHERE id = $1"
FLOWS = 12


@pytest.mark.parametrize("sync", [True, False])
async def test_what_is_only_shown_may_change(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, sync: bool
) -> None:
    runs = 0

    async def show(step: Any) -> list[Any]:
        if sync:
            return await asyncio.to_thread(
                lambda: [
                    step.sync.fetchval(BALANCE, 1, validate=False),
                    step.sync.fetchrow(BALANCE, 1, validate=False)["balance"],
                    step.sync.fetch(BALANCE, 1, validate=False)[0]["balance"],
                ]
            )
        return [
            await step.fetchval(BALANCE, 1, validate=False),
            (await step.fetchrow(BALANCE, 1, validate=False))["balance"],
            (await step.fetch(BALANCE, 1, validate=False))[0]["balance"],
        ]

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        step = current_step()
        await step.fetchval(BALANCE, 2)  # this one is a fact
        seen = await show(step)
        await bank.set(7)
        step.stage(DEBIT, 3)
        return {"seen": [*seen, await step.fetchval(BALANCE, 1, validate=False)]}

    graph = chain(saver, node)
    assert (await graph.ainvoke({"n": 0}, thread))["seen"] == [100] * 4  # one snapshot
    assert runs == 1
    (step,) = await steps_of(saver, thread)
    assert (step.reads, step.drifts) == (1, 0)


async def test_a_fact_beside_it_counts(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 2, validate=False)
        await step.fetchval(BALANCE, 1)
        await bank.set(7)
        step.stage(SET, 1, 1)

    with pytest.raises(StepConflict):
        await chain(saver, node).ainvoke({"n": 0}, thread)


async def test_a_step_with_nothing_but_that_has_no_facts(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        seen = await current_step().fetchval(BALANCE, 1, validate=False)
        await bank.set(7)
        return {"n": seen}

    assert (await chain(saver, node).ainvoke({"n": 0}, thread))["n"] == 100


async def test_it_is_a_read_all_the_same(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    refused: list[type[Exception]] = []

    async def node(state: Any) -> Any:
        for sql in ("UPDATE account SET balance = 0", "SELECT 1 / 0"):
            with pytest.raises((ReadRefused, ReadFailed)) as caught:
                await current_step().fetch(sql, validate=False)
            refused.append(caught.type)
        return {"n": await current_step().fetchval(BALANCE, 1)}

    assert (await chain(saver, node).ainvoke({"n": 0}, thread))["n"] == 100
    assert refused == [ReadRefused, ReadFailed]


async def test_flows_that_decide_on_a_condition_run_once_each(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """All have read before any commits, and each commit changes the row that all have asked about."""
    runs, all_have_read = 0, asyncio.Barrier(FLOWS)

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        step = current_step()
        shown = await step.fetchval(BALANCE, 1, validate=False)
        enough = await step.fetchval(ENOUGH, 1, 5)
        await all_have_read.wait()
        if enough:
            step.stage(DRAW, 1, 5, expect_rows=1)
        return {"n": shown}

    flow = transactional(chain(saver, node))
    await asyncio.gather(*(flow.ainvoke({"n": 0}, new_thread()) for _ in range(FLOWS)))
    assert runs == FLOWS
    assert await bank.balance() == 100 - 5 * FLOWS


async def test_a_condition_that_turns_makes_those_run_again_that_rest_on_it(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    await bank.set(12)
    runs, all_have_read = 0, asyncio.Barrier(3)

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        step = current_step()
        enough = await step.fetchval(ENOUGH, 1, 5)
        if runs <= 3:
            await all_have_read.wait()
        if enough:
            step.stage(DRAW, 1, 5, expect_rows=1)
        return {"n": int(enough)}

    flow = transactional(chain(saver, node))
    ends = await asyncio.gather(*(flow.ainvoke({"n": 0}, new_thread()) for _ in range(3)))
    assert sorted(end["n"] for end in ends) == [0, 1, 1]
    assert runs == 4
    assert await bank.balance() == 2
