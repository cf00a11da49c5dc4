"""Forks and time travel: LangGraph's own, with today's facts, also when a fork's first super-step conflicts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.support.bank import BALANCE
from tests.support.graphs import LARGE, State, chain, config_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_a_conflict_in_a_fork_goes_on_in_the_fork(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    interfere = False
    runs: list[str] = []

    async def first(state: Any) -> Any:
        runs.append("first")
        current_step().stage("INSERT INTO journal (line) VALUES ('first')")
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        nonlocal interfere
        runs.append("second")
        step = current_step()
        balance = await step.fetchval("SELECT balance FROM account WHERE id = 1")
        if interfere:
            interfere = False
            await bank.set(7)
        step.stage("UPDATE account SET balance = $1 WHERE id = 1", balance + 1)
        return {"seen": [balance]}

    flow = transactional(chain(saver, first, second))
    await flow.ainvoke({"seen": []}, thread)
    history = [state async for state in flow.aget_state_history(thread)]
    (before_first,) = (state for state in history if state.next == ("first",))
    runs.clear()
    interfere = True
    result = await flow.ainvoke(None, before_first.config)
    assert result["seen"] == ["first", 7]
    assert runs == ["first", "second", "second"]
    assert await bank.balance() == 8
    lines = await bank.do("SELECT count(*) FROM journal")
    assert lines[0][0] == 2


async def test_two_branches_of_one_checkpoint_keep_their_own_large_values(saver: TransactionalSaver) -> None:
    async def grow(state: Any) -> Any:
        return {"bag": {**state["bag"], f"turn {state['n']}": "x" * LARGE}}

    graph = chain(saver, grow)
    await graph.ainvoke({"n": 0, "bag": {"root": "r" * LARGE}}, config_of("t"))
    root = (await graph.aget_state(config_of("t"))).config
    tips = []
    for name in ("left", "right"):
        fork = await graph.aupdate_state(root, {"n": 1, "bag": {"branch": name * LARGE}}, as_node="__start__")
        await graph.ainvoke(None, fork)
        tips.append((name, (await graph.aget_state(config_of("t"))).config))
    for name, tip in tips:
        assert (await graph.aget_state(tip)).values["bag"] == {"branch": name * LARGE, "turn 1": "x" * LARGE}
    assert (await graph.aget_state(root)).values["bag"] == {"root": "r" * LARGE, "turn 0": "x" * LARGE}


def shape(snapshots: list[Any]) -> list[Any]:
    """What must be equal whichever saver: no ids, no times."""
    ids = [s.config["configurable"]["checkpoint_id"] for s in snapshots]

    def at(config: Any) -> int | None:
        return ids.index(config["configurable"]["checkpoint_id"]) if config else None

    return [
        (
            s.values,
            s.next,
            {k: v for k, v in s.metadata.items() if k in ("source", "step", "parents", "writes")},
            at(s.parent_config),
            [(t.name, t.error, [i.value for i in t.interrupts]) for t in s.tasks],
        )
        for s in snapshots
    ]


@pytest.mark.parametrize("back", range(5))
@pytest.mark.parametrize("how", ["replay", "update", "input", "update as node"])
async def test_time_travel_is_langgraphs_own(saver: TransactionalSaver, back: int, how: str) -> None:
    """Going back to any checkpoint, in each way LangGraph offers, leaves the same history behind."""

    async def one(state: Any) -> Any:
        return {"seen": [f"one {state['n']}"], "bag": {"one": "1" * LARGE}}

    async def two(state: Any) -> Any:
        return {"seen": [f"two {state['n']}"], "n": state["n"] + 1}

    async def three(state: Any) -> Any:
        return {"seen": [f"three {state['n']}"], "bag": {"three": "3" * LARGE}}

    results = []
    for checkpointer in (saver, InMemorySaver()):
        graph = chain(checkpointer, one, two, three)
        await graph.ainvoke({"n": 0, "seen": ["first"]}, config_of("t"))
        old = [s async for s in graph.aget_state_history(config_of("t"))][back].config
        if how == "replay":
            result = await graph.ainvoke(None, old)
        elif how == "input":
            result = await graph.ainvoke({"n": 40, "seen": ["again"]}, old)
        else:
            fork = await graph.aupdate_state(old, {"n": 30}, as_node="two" if how == "update as node" else "one")
            result = await graph.ainvoke(None, fork)
        latest = await graph.ainvoke({"n": 50}, config_of("t"))
        history = [s async for s in graph.aget_state_history(config_of("t"))]
        results.append((result, latest, shape(history), [s.values async for s in graph.aget_state_history(old)]))
    assert results[0] == results[1]


async def test_time_travel_reads_todays_facts(saver: TransactionalSaver, bank: Bank) -> None:
    async def one(state: Any) -> Any:
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    async def two(state: Any) -> Any:
        step = current_step()
        step.stage("UPDATE account SET balance = balance - 1 WHERE id = 1", expect_rows=1)
        return {"seen": [await step.fetchval(BALANCE, 1)]}

    flow = transactional(chain(saver, one, two))
    await flow.ainvoke({"seen": []}, config_of("t"))
    history = [s async for s in flow.aget_state_history(config_of("t"))]
    before_two = next(s for s in history if s.next == ("two",))
    assert before_two.values["seen"] == [100]
    await bank.set(50)
    assert (await flow.ainvoke(None, before_two.config))["seen"] == [100, 50]
    assert await bank.balance() == 49
    assert (await flow.aget_state(config_of("t"))).values["seen"] == [100, 50]


async def test_time_travel_with_a_subgraph_that_reads(saver: TransactionalSaver, bank: Bank) -> None:
    async def inner_one(state: Any) -> Any:
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    async def inner_two(state: Any) -> Any:
        step = current_step()
        step.stage("UPDATE account SET balance = balance - 1 WHERE id = 1", expect_rows=1)
        return {"seen": [await step.fetchval(BALANCE, 1)]}

    inner = chain(None, inner_one, inner_two)

    async def outer(state: Any) -> Any:
        return {"seen": (await inner.ainvoke({"seen": []}))["seen"]}

    flow = transactional(chain(saver, outer))
    async with asyncio.timeout(30):
        assert (await flow.ainvoke({"seen": []}, config_of("t")))["seen"] == [100, 100]
        before = next(s for s in [s async for s in flow.aget_state_history(config_of("t"))] if s.next == ("outer",))
        assert (await flow.ainvoke(None, before.config))["seen"] == [99, 99]
    assert await bank.balance() == 98


async def test_time_travel_into_a_subgraph_that_waits_for_a_human(saver: TransactionalSaver, bank: Bank) -> None:
    async def ask(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        answer = interrupt({"balance": balance})
        step.stage("UPDATE account SET balance = balance - $1 WHERE id = 1", answer, expect_rows=1)
        return {"seen": [balance, answer]}

    inner = StateGraph(State)
    inner.add_node("ask", ask)
    inner.add_edge(START, "ask")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    flow = transactional(outer.compile(checkpointer=saver))
    async with asyncio.timeout(30):
        first = await flow.ainvoke({"seen": []}, config_of("t"))
        assert [i.value for i in first["__interrupt__"]] == [{"balance": 100}]
        waiting = (await flow.aget_state(config_of("t"))).config
        assert (await flow.ainvoke(Command(resume=10), config_of("t")))["seen"] == [100, 10]
        again = await flow.ainvoke(None, waiting)
        assert [i.value for i in again["__interrupt__"]] == [{"balance": 90}]
        assert (await flow.ainvoke(Command(resume=5), config_of("t")))["seen"] == [90, 5]
    assert await bank.balance() == 85


async def test_update_state_between_runs_is_where_the_thread_goes_on(saver: TransactionalSaver, bank: Bank) -> None:
    async def one(state: Any) -> Any:
        return {"seen": [("one", state["n"])]}

    async def two(state: Any) -> Any:
        current_step().stage("INSERT INTO journal (line) VALUES ($1)", f"two {state['n']}")
        return {"seen": [("two", state["n"])]}

    builder = StateGraph(State)
    builder.add_node("one", one)
    builder.add_node("two", two)
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    flow = transactional(builder.compile(checkpointer=saver, interrupt_before=["two"]))
    await flow.ainvoke({"n": 1, "seen": []}, config_of("t"))
    assert (await flow.aget_state(config_of("t"))).next == ("two",)
    await flow.aupdate_state(config_of("t"), {"n": 7})
    result = await flow.ainvoke(None, config_of("t"))
    assert [tuple(pair) for pair in result["seen"]] == [("one", 1), ("two", 7)]
    assert await bank.journal() == ["two 7"]
