"""A planner reads, an executor acts, and in the gap the account moves."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from superstep import guard, transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ConfigError, NoActiveStep, PlanInvalidated, ProvenanceMissing
from tests.support.bank import BALANCE
from tests.support.graphs import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

DRAW = "UPDATE account SET balance = balance - $1 WHERE id = 1"


class Plan(TypedDict, total=False):
    """What a planner hands to an executor."""

    plan: int
    plans: Annotated[list[int], operator.add]
    ran: Annotated[list[str], operator.add]


class Flow:
    """planner → wait → executor → after; the account moves in `wait`, as often as there are moves.

    Attributes:
        ran: nodes, in order.
    """

    def __init__(self, bank: Bank, *moves: int, otherwise: str | None = "planner", on: Any = "plan") -> None:
        self.ran: list[str] = []
        self.moves = list(moves)
        self.bank = bank
        self.otherwise = otherwise
        self.on = on

    async def planner(self, state: Plan) -> Plan:
        self.ran.append("planner")
        balance = await current_step().fetchval(BALANCE, 1)
        return {"plan": balance, "plans": [balance]}

    async def wait(self, state: Plan) -> Plan:
        self.ran.append("wait")
        if self.moves:
            await self.bank.set(self.moves.pop(0))
        return {"ran": ["waited"]}

    async def executor(self, state: Plan) -> Plan:
        self.ran.append("executor")
        current_step().stage(DRAW, state["plan"], expect_rows=1)
        return {"ran": [f"drew {state['plan']}"]}

    async def after(self, state: Plan) -> Plan:
        self.ran.append("after")
        return {}

    def builder(self, executor: Any = None, **guarding: Any) -> StateGraph[Any]:
        builder = StateGraph(Plan)
        builder.add_node("planner", self.planner)
        builder.add_node("wait", self.wait)
        guarded = guard(executor or self.executor, on=self.on, otherwise=self.otherwise, **guarding)
        builder.add_node("executor", guarded)
        builder.add_node("after", self.after)
        builder.add_edge(START, "planner").add_edge("planner", "wait").add_edge("wait", "executor")
        return builder.add_edge("executor", "after").add_edge("after", END)


async def test_a_plan_whose_facts_hold_is_carried_out(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank)
    result = await transactional(flow.builder().compile(checkpointer=saver)).ainvoke({}, thread)
    assert flow.ran == ["planner", "wait", "executor", "after"]
    assert (result["plan"], await bank.balance()) == (100, 0)


@pytest.mark.parametrize("wrap", [False, True])
async def test_one_whose_facts_have_moved_is_made_anew_and_nothing_else_follows(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    flow = Flow(bank, 70, 40)
    graph = flow.builder().compile(checkpointer=saver)
    result = await (transactional(graph) if wrap else graph).ainvoke({}, thread)
    assert flow.ran == ["planner", "wait"] * 3 + ["executor", "after"]
    assert result["plans"] == [100, 70, 40]
    assert (result["ran"][-1], await bank.balance()) == ("drew 40", 0)
    guards = [each for step in await steps_of(saver, thread) for each in step.guards]
    assert guards == [{"node": "executor", "on": ["plan"], "held": held} for held in (False, False, True)]


async def test_without_a_way_back_it_is_refused_by_name(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, 70, otherwise=None)
    graph = transactional(flow.builder().compile(checkpointer=saver))
    with pytest.raises(PlanInvalidated, match="'plan' rests on have changed, so 'executor' did not run") as caught:
        await graph.ainvoke({}, thread)
    assert caught.value.tasks == ("executor",)
    assert await bank.balance() == 70
    await bank.set(100)
    await graph.ainvoke(None, thread)
    assert await bank.balance() == 0


async def test_facts_that_move_between_the_guard_and_the_commit_are_seen_by_the_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank)
    moves = iter([60])

    async def executor(state: Plan) -> Plan:
        if (balance := next(moves, None)) is not None:
            await bank.set(balance)
        return await flow.executor(state)

    result = await transactional(flow.builder(executor).compile(checkpointer=saver)).ainvoke({}, thread)
    assert flow.ran == ["planner", "wait", "executor", "planner", "wait", "executor", "after"]
    assert (result["plans"], await bank.balance()) == ([100, 60], 0)


async def test_it_holds_after_hours_at_an_interrupt_and_in_another_process(
    saver: TransactionalSaver, bank: Bank, database_url: str, thread: RunnableConfig
) -> None:
    flow = Flow(bank)

    async def asks(state: Plan) -> Plan:
        return {"ran": [interrupt("carry it out?")]}

    def graph(saver: Any) -> Any:
        builder = flow.builder()
        builder.nodes["wait"] = StateGraph(Plan).add_node("wait", asks).nodes["wait"]
        return transactional(builder.compile(checkpointer=saver))

    await graph(saver).ainvoke({}, thread)
    await bank.set(30)
    async with TransactionalSaver.from_conn_string(database_url) as elsewhere:
        await graph(elsewhere).ainvoke(Command(resume="yes"), thread)
        assert flow.ran == ["planner", "planner"]
        result = await graph(elsewhere).ainvoke(Command(resume="yes"), thread)
    assert (result["plans"], flow.ran[2:], await bank.balance()) == ([100, 30], ["executor", "after"], 0)


async def test_what_a_subgraph_of_the_planner_has_read_counts(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, 70)
    inner = StateGraph(Plan).add_node("planner", flow.planner).add_edge(START, "planner").compile()

    async def plans(state: Plan) -> Plan:
        return {"plan": (await inner.ainvoke({}))["plan"]}

    for node in (plans, inner):
        flow.moves, flow.ran = [70], []
        await bank.set(100)
        builder = flow.builder()
        builder.nodes["planner"] = StateGraph(Plan).add_node("planner", node).nodes["planner"]
        own = {"configurable": {"thread_id": f"{thread['configurable']['thread_id']} {node is inner}"}}
        result = await transactional(builder.compile(checkpointer=saver)).ainvoke({}, own)
        assert flow.ran == ["planner", "wait"] * 2 + ["executor", "after"]
        assert (result["plan"], await bank.balance()) == (70, 0)


async def test_own_writes_that_the_planner_has_committed_do_not_count(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank)

    async def planner(state: Plan) -> Plan:
        current_step().stage(DRAW, 10)
        return await flow.planner(state)

    builder = flow.builder(flow.after)
    builder.nodes["planner"] = StateGraph(Plan).add_node("planner", planner).nodes["planner"]
    await transactional(builder.compile(checkpointer=saver)).ainvoke({}, thread)
    assert flow.ran == ["planner", "wait", "after", "after"]
    assert await bank.balance() == 90


async def test_a_second_guard_on_the_same_plan_holds_after_the_first_has_written(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank)
    builder = flow.builder()
    builder.nodes["after"] = StateGraph(Plan).add_node("after", guard(flow.after, on="plan")).nodes["after"]
    await transactional(builder.compile(checkpointer=saver)).ainvoke({}, thread)
    assert flow.ran == ["planner", "wait", "executor", "after"]


async def test_of_a_list_all_that_was_added_counts(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Each of two planners has read another account. The first one's fact moves."""
    flow = Flow(bank, otherwise="first", on="plans")

    async def first(state: Plan) -> Plan:
        flow.ran.append("first")
        return {"plans": [await current_step().fetchval(BALANCE, 2)]}

    async def wait(state: Plan) -> Plan:
        if flow.moves:
            await bank.set(flow.moves.pop(), 2)
        return {}

    flow.moves = [50]
    builder = flow.builder()
    builder.add_node("first", first).add_edge("first", "planner")
    builder.nodes["wait"] = StateGraph(Plan).add_node("wait", wait).nodes["wait"]
    builder.edges.remove((START, "planner"))
    builder.add_edge(START, "first")
    graph = transactional(builder.compile(checkpointer=saver), name="lists")
    with pytest.raises(Exception, match=r"[Rr]ecursion"):  # what was added once is never taken away again
        await graph.ainvoke({}, {**thread, "recursion_limit": 12})
    assert "executor" not in flow.ran


@pytest.mark.parametrize("edges", ["conditional", "join", "send"])
async def test_no_kind_of_edge_is_followed_on_the_way_back(
    edges: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, 70)

    async def beside(state: Plan) -> Plan:
        flow.ran.append("beside")
        return {}

    builder = flow.builder()
    builder.edges.remove(("executor", "after"))
    if edges == "conditional":
        builder.add_conditional_edges("executor", lambda state: "after", ["after"])
    elif edges == "send":
        builder.add_conditional_edges("executor", lambda state: [Send("after", state)], ["after"])
    else:
        builder.add_node("beside", beside).add_edge(START, "beside").add_edge(["executor", "beside"], "after")
    await transactional(builder.compile(checkpointer=saver)).ainvoke({}, thread)
    ran = [node for node in flow.ran if node != "beside"]
    assert ran == ["planner", "wait"] * 2 + ["executor", "after"]


def test_a_synchronous_node(saver: TransactionalSaver, database_url: str) -> None:
    ran: list[str] = []

    def planner(state: Plan) -> Plan:
        ran.append("planner")
        return {"plan": current_step().sync.fetchval("SELECT 1")}

    def executor(state: Plan) -> Plan:
        ran.append("executor")
        return {}

    with TransactionalSaver.from_conn_string(database_url) as opened:
        builder = StateGraph(Plan).add_node("planner", planner)
        builder.add_node("executor", guard(executor, on="plan", otherwise="planner"))
        builder.add_edge(START, "planner").add_edge("planner", "executor")
        transactional(builder.compile(checkpointer=opened)).invoke({}, {"configurable": {"thread_id": "sync"}})
    assert ran == ["planner", "executor"]


async def test_a_guarded_subgraph_and_how_it_is_drawn(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank, 70)
    inner = StateGraph(Plan).add_node("draws", flow.executor).add_edge(START, "draws").compile()
    graph = flow.builder(inner).compile(checkpointer=saver)
    result = await transactional(graph).ainvoke({}, thread)
    assert flow.ran == ["planner", "wait"] * 2 + ["executor", "after"]
    assert (result["plan"], await bank.balance()) == (70, 0)
    drawn = Flow(bank).builder().compile().get_graph().draw_mermaid()
    assert "executor -.-> planner" in drawn


async def test_what_nobody_knows_the_facts_of_is_named(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, new_thread: Callable[[], RunnableConfig]
) -> None:
    flow = Flow(bank)
    alone = StateGraph(Plan).add_node("executor", guard(flow.executor, on="plan")).add_edge(START, "executor")
    graph = transactional(alone.compile(checkpointer=saver))
    with pytest.raises(ProvenanceMissing, match="written by no task"):
        await graph.ainvoke({"plan": 5}, thread)
    whole = transactional(flow.builder().compile(checkpointer=saver))
    thread = new_thread()
    await whole.ainvoke({}, {**thread}, interrupt_before=["executor"])
    async with saver.transaction() as tx:  # as if the planner had run in a process without the guard
        await tx.execute("DELETE FROM runtime.provenance")
    with pytest.raises(ProvenanceMissing, match="process without this guard"):
        await whole.ainvoke(None, thread)
    assert flow.ran == ["planner", "wait"]


async def test_a_guard_put_into_a_flow_lets_its_older_plans_pass_if_it_is_told_to_and_guards_the_others(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    with pytest.raises(ConfigError, match="neither"):
        guard(print, on="plan", unknown="pass")  # type: ignore[arg-type]
    flow = Flow(bank)
    whole = transactional(flow.builder(unknown="run").compile(checkpointer=saver))
    older, known = new_thread(), new_thread()
    await whole.ainvoke({}, older, interrupt_before=["executor"])
    async with saver.transaction() as tx:  # as if its planner had run before there was a guard
        await tx.execute("DELETE FROM runtime.provenance")
    await whole.ainvoke(None, older)
    assert flow.ran == ["planner", "wait", "executor", "after"]
    flow.ran.clear()
    await whole.ainvoke({}, known, interrupt_before=["executor"])
    await bank.set(70)
    await whole.ainvoke(None, known)
    assert flow.ran == ["planner", "wait"] * 2 + ["executor", "after"]


async def test_a_plan_of_an_earlier_turn_of_the_thread(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    flow = Flow(bank)
    turns = iter(["planner", "executor", "executor"])
    builder = StateGraph(Plan)
    builder.add_node("planner", flow.planner)
    builder.add_node("executor", guard(flow.after, on="plan"))
    builder.add_conditional_edges(START, lambda state: next(turns), ["planner", "executor"])
    graph = transactional(builder.compile(checkpointer=saver))
    await graph.ainvoke({"ran": ["a"]}, thread)
    await graph.ainvoke({"ran": ["b"]}, thread)
    await bank.set(20)
    with pytest.raises(PlanInvalidated):
        await graph.ainvoke({"ran": ["c"]}, thread)
    assert flow.ran == ["planner", "after"]


async def test_what_is_no_guard() -> None:
    with pytest.raises(ConfigError, match="needs the name"):
        guard(lambda state: state, on=[])
    with pytest.raises(ConfigError, match="takes a function"):
        guard(5, on="plan")
    with pytest.raises(NoActiveStep):
        await guard(Flow.after, on="plan")(None, {})
