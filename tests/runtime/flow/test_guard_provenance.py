"""Whose facts a guarded value rests on, however its author has read them and wherever the thread goes on from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.func import task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from superstep import guard, transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import PlanInvalidated, ProvenanceMissing
from tests.runtime.flow.test_guards import DRAW, Flow, Plan
from tests.support.bank import BALANCE

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


def replaced(builder: StateGraph[Any], name: str, node: Any) -> StateGraph[Any]:
    builder.nodes[name] = StateGraph(Plan).add_node(name, node).nodes[name]
    return builder


async def read_balance() -> int:
    return int(await current_step().fetchval(BALANCE, 1))


async def test_what_a_task_of_the_planner_has_read(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, 70)

    @task
    async def looks() -> int:
        return await read_balance()

    async def planner(state: Plan) -> Plan:
        flow.ran.append("planner")
        return {"plan": await looks()}

    graph = transactional(replaced(flow.builder(), "planner", planner).compile(checkpointer=saver))
    result = await graph.ainvoke({}, thread)
    assert (flow.ran, result["plan"]) == (["planner", "wait"] * 2 + ["executor", "after"], 70)


async def test_a_task_runs_again_with_its_caller_when_a_run_goes_back(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    @task
    async def looks() -> int:
        return await read_balance()

    async def planner(state: Plan) -> Plan:
        return {"plan": await looks()}

    moves = [70]

    async def after(state: Plan) -> Plan:
        if moves:
            await bank.set(moves.pop())
        return {"ran": ["after"]}

    builder = StateGraph(Plan).add_node("planner", planner).add_node("after", after)
    builder.add_edge(START, "planner").add_edge("planner", "after")
    flow = transactional(builder.compile(checkpointer=saver), isolation="flow")
    assert (await flow.ainvoke({}, thread))["plan"] == 70


@pytest.mark.parametrize("isolation", ["step", "flow"])
async def test_a_planner_that_keeps_its_state_from_call_to_call(
    saver: TransactionalSaver, bank: Bank, database_url: str, thread: RunnableConfig, isolation: str
) -> None:
    """Its namespace tells nothing of who called it: after hours, in another process, and when it is called again."""
    flow = Flow(bank)
    inner = StateGraph(Plan).add_node("reads", flow.planner).add_edge(START, "reads").compile(checkpointer=True)

    async def planner(state: Plan) -> Plan:
        return {"plan": (await inner.ainvoke({}))["plan"]}

    async def asks(state: Plan) -> Plan:
        return {"ran": [interrupt("carry it out?")]}

    def graph(saver: Any) -> Any:
        builder = replaced(replaced(flow.builder(), "planner", planner), "wait", asks)
        return transactional(builder.compile(checkpointer=saver), isolation=isolation)

    await graph(saver).ainvoke({}, thread)
    await bank.set(30)
    async with TransactionalSaver.from_conn_string(database_url) as elsewhere:
        await graph(elsewhere).ainvoke(Command(resume="yes"), thread)
        assert flow.ran == ["planner", "planner"]
        result = await graph(elsewhere).ainvoke(Command(resume="yes"), thread)
    assert (result["plan"], flow.ran[2:], await bank.balance()) == (30, ["executor", "after"], 0)


async def test_a_result_that_is_stored_after_its_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """A sibling thinks longer, so the planner's result is to be stored by itself, and that takes its time."""
    flow, held = Flow(bank, 70), asyncio.Event()
    slow = asyncio.Event()

    async def hold() -> None:
        slow.set()
        await held.wait()

    async def beside(state: Plan) -> Plan:
        await slow.wait()
        return {"ran": ["beside"]}

    async def executor(state: Plan) -> Plan:
        held.set()
        return await flow.executor(state)

    builder = flow.builder(executor).add_node("beside", beside)
    builder.add_edge(START, "beside")
    failpoints.arm("writes.before_flush", hold)

    async def planner(state: Plan) -> Plan:
        try:
            return await flow.planner(state)
        finally:
            if flow.ran.count("planner") > 1:
                held.set()

    graph = transactional(replaced(builder, "planner", planner).compile(checkpointer=saver))
    result = await graph.ainvoke({}, thread)
    assert (flow.ran, result["plan"]) == (["planner", "wait"] * 2 + ["executor", "after"], 70)


async def test_a_guarded_node_that_is_run_again_from_an_older_checkpoint(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Its own write is not part of that past: there the plan's facts are what the planner had read."""
    flow = Flow(bank, otherwise=None)

    async def executor(state: Plan) -> Plan:
        current_step().stage(DRAW, 40, expect_rows=1)
        return {"ran": ["drew"]}

    graph = transactional(flow.builder(executor).compile(checkpointer=saver))
    await graph.ainvoke({}, thread)
    before = [each async for each in graph.aget_state_history(thread) if each.next == ("executor",)]
    with pytest.raises(PlanInvalidated):
        await graph.ainvoke(None, before[0].config)
    assert await bank.balance() == 60


async def test_what_was_given_with_an_answer_rests_on_nothing(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank)

    async def asks(state: Plan) -> Plan:
        return {"ran": [interrupt("carry it out?")]}

    graph = transactional(replaced(flow.builder(), "wait", asks).compile(checkpointer=saver))
    await graph.ainvoke({}, thread)
    with pytest.raises(ProvenanceMissing, match="an update of the state"):
        await graph.ainvoke(Command(resume="yes", update={"plan": 33}), thread)
    assert flow.ran == ["planner"]


async def test_two_guarded_nodes_side_by_side_go_on_from_one_plan(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """What the one stages changes what the plan was made on, and is the flow's own."""
    ran: list[str] = []

    async def planner(state: Plan) -> Plan:
        ran.append("planner")
        return {"plan": await read_balance()}

    def drawing(name: str) -> Any:
        async def draws(state: Plan) -> Plan:
            ran.append(name)
            current_step().stage(DRAW, 10, expect_rows=1)
            return {}

        return draws

    builder = StateGraph(Plan).add_node("planner", planner).add_edge(START, "planner")
    for name in ("one", "two"):
        builder.add_node(name, guard(drawing(name), on="plan", otherwise="planner"))
        builder.add_edge("planner", name).add_edge(name, END)
    await transactional(builder.compile(checkpointer=saver)).ainvoke({}, {**thread, "recursion_limit": 8})
    assert await bank.balance() == 80
    assert (ran.count("planner"), sorted(set(ran))) == (1, ["one", "planner", "two"])
