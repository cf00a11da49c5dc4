"""Tasks of one super-step are serial too: its effect is that of its tasks one after the other, in path order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from superstep import transactional
from superstep.checkpointer import SiblingConflict, TransactionalSaver, current_step
from tests.support.bank import BALANCE, LOG, SET, Bank
from tests.support.graphs import State, config_of, fan, steps_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

DRAW = "UPDATE account SET balance = balance - $1 WHERE id = 1 AND balance >= $1"


def sends(saver: Any, node: Any, *amounts: int) -> CompiledStateGraph[Any]:
    """One task for each amount, all in one super-step."""
    builder = StateGraph(State).add_node("draw", node)
    builder.add_conditional_edges(START, lambda _: [Send("draw", {"n": amount}) for amount in amounts], ["draw"])
    return builder.compile(checkpointer=saver)


async def draw(state: Any) -> Any:
    """The README's node: reads the balance, thinks, stages what it computed."""
    step = current_step()
    balance = await step.fetchval(BALANCE, 1)
    amount = min(state["n"], balance)
    step.stage("UPDATE account SET balance = $2 WHERE id = $1", 1, balance - amount, expect_rows=1)
    return {"seen": [amount]}


@pytest.mark.parametrize("hold_idle", [0, 0.25, "forever"])
@pytest.mark.parametrize("amounts", [(70, 70), (30, 30, 30, 30, 30), (100, 1)])
async def test_tasks_that_read_and_write_one_row_draw_what_is_there(
    amounts: tuple[int, ...], saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    result = await transactional(sends(saver, draw, *amounts)).ainvoke({"seen": []}, thread)
    left, expected = 100, []
    for amount in amounts:  # the serial execution, in the order of the tasks
        expected.append(min(amount, left))
        left -= expected[-1]
    assert result["seen"] == expected
    assert await bank.balance() == left


async def test_only_the_tasks_that_others_have_moved_run_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    ran: Counter[str] = Counter()

    def node(name: str, account: int) -> Any:
        async def run(state: Any) -> Any:
            ran[name] += 1
            step = current_step()
            value = await step.fetchval(BALANCE, account)
            step.stage("UPDATE account SET balance = balance - 1 WHERE id = $1", account)
            return {"seen": [f"{name} {value}"]}

        run.__name__ = name
        return run

    flow = transactional(fan(saver, node("a", 1), node("b", 1), node("c", 2), node("d", 1)))
    result = await flow.ainvoke({"seen": []}, thread)
    assert sorted(result["seen"]) == ["a 100", "b 99", "c 100", "d 98"]
    assert ran["a"] == ran["c"] == 1
    assert ran["b"] == 2
    assert ran["d"] <= 3
    assert await bank.balance() == 97


async def test_relative_writes_and_conditions_run_nothing_twice(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    ran: list[int] = []

    async def relative(state: Any) -> Any:
        ran.append(1)
        step = current_step()
        assert await step.fetchval("SELECT balance >= 10 FROM account WHERE id = 1")
        step.stage(DRAW, 10, expect_rows=1)
        return {}

    await transactional(sends(saver, relative, *[1] * 6)).ainvoke({"seen": []}, thread)
    assert len(ran) == 6
    assert await bank.balance() == 40
    (step,) = await steps_of(saver, thread)
    assert (step.attempts, step.drifts) == (1, 0)


async def test_a_write_that_finds_its_row_gone_runs_after_the_one_that_took_it(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Nothing is read: the count of rows is what the second rests on."""

    async def take(state: Any) -> Any:
        step = current_step()
        if await step.fetchval("SELECT balance >= 70 FROM account WHERE id = 1"):
            step.stage(DRAW, 70, expect_rows=1)
            return {"seen": ["took"]}
        return {"seen": ["too late"]}

    result = await transactional(sends(saver, take, 1, 1)).ainvoke({"seen": []}, thread)
    assert result["seen"] == ["took", "too late"]
    assert await bank.balance() == 30


async def test_a_read_that_an_earlier_siblings_insert_changes(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def number(state: Any) -> Any:
        step = current_step()
        count = await step.fetchval("SELECT count(*) FROM journal")
        step.stage(LOG, f"entry {count}")
        return {"seen": [count]}

    result = await transactional(sends(saver, number, 1, 2, 3)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [0, 1, 2]
    assert await bank.journal() == ["entry 0", "entry 1", "entry 2"]


async def test_plain_langgraph_is_told_and_goes_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    graph = sends(saver, draw, 70, 70)
    with pytest.raises(SiblingConflict) as raised:
        await graph.ainvoke({"seen": []}, thread)
    assert raised.value.tasks == ("draw",)
    assert await bank.balance() == 100  # nothing was written
    assert (await graph.ainvoke(None, thread))["seen"] == [70, 30]
    assert await bank.balance() == 0


async def test_what_was_read_on_top_of_a_siblings_writes_survives_a_crash(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The second task has finished on top of the first's writes; a third asks, so the step is not committed yet."""

    def graph(saver: Any) -> Any:
        async def ask(state: Any) -> Any:
            return {"seen": [interrupt("go on?")]}

        builder = StateGraph(State).add_node("draw", draw).add_node("ask", ask)
        targets = [Send("draw", {"n": 70}), Send("draw", {"n": 70}), Send("ask", {})]
        builder.add_conditional_edges(START, lambda _: targets, ["draw", "ask"])
        return transactional(builder.compile(checkpointer=saver))

    await graph(saver).ainvoke({"seen": []}, thread)
    async with TransactionalSaver.from_conn_string(database_url) as other:
        result = await graph(other).ainvoke(Command(resume="yes"), thread)
    assert sorted(map(str, result["seen"])) == ["30", "70", "yes"]
    assert await bank.balance() == 0


async def test_a_change_from_outside_moves_what_was_read_on_top_too(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    reads: list[int] = []

    async def watched(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        reads.append(balance)
        if len(reads) == 3:  # the second task, on top of the first's write
            await bank.set(50)
        amount = min(state["n"], balance)
        step.stage(SET, balance - amount, 1)
        return {"seen": [amount]}

    result = await transactional(sends(saver, watched, 40, 40)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [40, 10]
    assert await bank.balance() == 0


@pytest.mark.parametrize("seed", range(6))
async def test_any_super_step_has_the_effect_of_a_serial_one(seed: int, saver: TransactionalSaver, bank: Bank) -> None:
    """Random transfers between three accounts: compared with their execution one after the other."""
    chance = random.Random(seed)
    jobs = [(chance.randint(1, 3), chance.randint(1, 3), chance.randint(1, 60)) for _ in range(5)]

    async def transfer(state: Any) -> Any:
        source, target, amount = jobs[state["n"]]
        step = current_step()
        await asyncio.sleep(0)
        have = await step.fetchval(BALANCE, source)
        moved = min(amount, have)
        step.stage("UPDATE account SET balance = balance - $2 WHERE id = $1", source, moved, expect_rows=1)
        step.stage("UPDATE account SET balance = balance + $2 WHERE id = $1", target, moved, expect_rows=1)
        return {"seen": [moved]}

    result = await transactional(sends(saver, transfer, *range(5))).ainvoke({"seen": []}, config_of("t"))
    accounts, expected = {1: 100, 2: 100, 3: 100}, []
    for source, target, amount in jobs:
        moved = min(amount, accounts[source])
        accounts[source] -= moved
        accounts[target] += moved
        expected.append(moved)
    assert result["seen"] == expected
    assert {account: await bank.balance(account) for account in accounts} == accounts
