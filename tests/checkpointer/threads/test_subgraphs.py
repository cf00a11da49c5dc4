"""Subgraphs have super-steps and barriers of their own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ConfigError, NoActiveStep, StepConflict
from tests.support.bank import Bank, make_bank
from tests.support.graphs import State, chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

from tests.support.kinds import BALANCE, DEBIT, LOG, Once, graph_of, journal, pinned


async def log_a(state: Any) -> Any:
    step = current_step()
    step.stage(LOG, "a")
    return {"seen": [("a", await step.fetchval("SELECT count(*) FROM journal"))]}


async def log_b(state: Any) -> Any:
    step = current_step()
    step.stage(LOG, "b")
    return {"seen": [("b", await step.fetchval("SELECT count(*) FROM journal"))]}


def around(saver: Any, inner: Any, *, called: bool = False) -> CompiledStateGraph[Any]:
    """A graph with `inner` as its node, or called from inside its node, and one node behind it."""
    builder = StateGraph(State)

    async def call(state: Any) -> Any:
        current_step().stage(LOG, "caller")
        result = await inner.ainvoke({"seen": []})
        return {"seen": result["seen"]}

    builder.add_node("inner", call if called else inner)

    async def after(state: Any) -> Any:
        return {"seen": [("after", await current_step().fetchval("SELECT count(*) FROM journal"))]}

    builder.add_node("after", after)
    builder.add_edge(START, "inner")
    builder.add_edge("inner", "after")
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("checkpointer", [None, True])
@pytest.mark.parametrize("wrap", [False, True])
async def test_each_super_step_of_a_subgraph_is_its_own_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, checkpointer: Any, wrap: bool
) -> None:
    graph = around(saver, graph_of(checkpointer, [log_a, log_b]))
    flow = transactional(graph) if wrap else graph
    result = await flow.ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("a", 0), ("b", 1), ("after", 2)]
    assert await journal(bank) == ["a", "b"]
    steps = await saver.asteps(thread["configurable"]["thread_id"])
    inner = [s for s in steps if s.checkpoint_ns]
    assert [(s.nodes, s.reads, s.writes) for s in inner] == [(["log_a"], 1, 1), (["log_b"], 1, 1)]
    assert {s.checkpoint_ns.partition(":")[0] for s in inner} == {"inner"}
    outer = [(s.nodes, s.reads, s.writes) for s in steps if not s.checkpoint_ns]
    assert outer == [(["inner"], 0, 0), (["after"], 1, 0)]
    assert pinned(saver) <= 1


@pytest.mark.parametrize("checkpointer", [None, True])
async def test_subgraph_called_from_inside_a_node(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, checkpointer: Any
) -> None:
    graph = around(saver, graph_of(checkpointer, [log_a, log_b]), called=True)
    result = await transactional(graph).ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("a", 0), ("b", 1), ("after", 3)]
    assert await journal(bank) == ["a", "b", "caller"]
    assert pinned(saver) == 0


async def test_sync_subgraph_without_a_loop(database_url: str, thread: RunnableConfig) -> None:
    with TransactionalSaver.from_conn_string(database_url) as saver:
        saver.database.home.block(make_bank(saver))

        def inner_node(state: Any) -> Any:
            step = current_step().sync
            step.stage(LOG, "inner")
            return {"seen": [step.fetchval(BALANCE, 1)]}

        inner = graph_of(None, [inner_node])

        def outer(state: Any) -> Any:
            return {"seen": inner.invoke({"seen": []})["seen"]}

        graph = chain(saver, outer)
        assert graph.invoke({"seen": []}, thread, durability="sync")["seen"] == [100]
        assert transactional(graph).invoke({"seen": []}, {"configurable": {"thread_id": "other"}})["seen"] == [100]
        assert saver.database.home.block(journal(Bank(saver))) == ["inner", "inner"]


@pytest.mark.parametrize("called", [False, True])
async def test_conflict_in_a_subgraph_runs_only_its_drifted_step_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, called: bool
) -> None:
    change = Once(bank, 55)
    runs: Counter[str] = Counter()

    async def one(state: Any) -> Any:
        runs["one"] += 1
        current_step().stage(LOG, "one")

    async def two(state: Any) -> Any:
        runs["two"] += 1
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await change()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": [("two", value)]}

    flow = transactional(around(saver, graph_of(None, [one, two]), called=called))
    result = await flow.ainvoke({"seen": []}, thread)
    expected = ["one", "caller"] if called else ["one"]
    assert [tuple(pair) for pair in result["seen"]] == [("two", 55), ("after", len(expected))]
    assert runs == {"one": 1, "two": 2}
    assert await bank.balance() == 54
    assert await journal(bank) == expected


async def test_plain_graph_raises_the_conflict_of_a_subgraph(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 55)

    async def reader(state: Any) -> Any:
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await change()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": [("reader", value)]}

    graph = around(saver, graph_of(None, [reader]))
    with pytest.raises(StepConflict) as caught:
        await graph.ainvoke({"seen": []}, thread)
    assert caught.value.tasks == ("reader",)
    result = await graph.ainvoke(None, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("reader", 55), ("after", 0)]
    assert await bank.balance() == 54


@pytest.mark.parametrize("inner_writes", [False, True])
async def test_caller_that_drifts_after_its_subgraph_committed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, inner_writes: bool
) -> None:
    """A subgraph that has committed domain writes is not run twice; one that only thought is run on the new facts."""
    change = Once(bank, 55)
    runs: Counter[str] = Counter()

    async def think(state: Any) -> Any:
        runs["think"] += 1
        if inner_writes:
            current_step().stage(LOG, "thought")
        return {"seen": [state["n"]]}

    inner = graph_of(None, [think])

    async def caller(state: Any) -> Any:
        runs["caller"] += 1
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        result = await inner.ainvoke({"n": value, "seen": []})
        await change()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": result["seen"]}

    result = await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread)
    assert await bank.balance() == 54
    assert runs["caller"] == 2
    if inner_writes:
        assert runs["think"] == 1
        assert await journal(bank) == ["thought"]
        assert result["seen"] == [100]
    else:
        assert runs["think"] == 2
        assert result["seen"] == [55]


async def test_caller_of_a_conflicting_subgraph_gives_its_connection_back(
    database_url: str, thread: RunnableConfig
) -> None:
    """The caller's own transaction is open while the inner step conflicts; the next attempt must not forget it."""
    async with TransactionalSaver.from_conn_string(database_url, hold_idle="forever") as saver:
        await make_bank(saver)
        change = Once(Bank(saver), 55)

        async def think(state: Any) -> Any:
            step = current_step()
            value = await step.fetchval(BALANCE, 1)
            await change()
            step.stage(DEBIT, 1, expect_rows=1)
            return {"seen": [value]}

        inner = graph_of(None, [think])

        async def caller(state: Any) -> Any:
            await current_step().fetchval(BALANCE, 5)
            return {"seen": (await inner.ainvoke({"seen": []}))["seen"]}

        assert (await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread))["seen"] == [55]
        held = pinned(saver)
        if held:
            saver.database.connections.pool.terminate()  # else closing the pool would wait for it for ever
        assert held == 0


async def test_stateful_subgraph_keeps_its_state_between_runs_of_the_thread(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def remember(state: Any) -> Any:
        current_step().stage(LOG, f"remember {len(state['seen'])}")
        return {"seen": ["x"]}

    inner = graph_of(True, [remember])

    async def outer(state: Any) -> Any:
        result = await inner.ainvoke({"n": 1})
        return {"n": len(result["seen"])}

    flow = transactional(chain(saver, outer))
    assert [(await flow.ainvoke({"n": 0}, thread))["n"] for _ in range(3)] == [1, 2, 3]
    assert await journal(bank) == ["remember 0", "remember 1", "remember 2"]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("called", [False, True])
async def test_subgraph_without_a_checkpointer_is_refused_by_name(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, called: bool, wrap: bool
) -> None:
    graph = around(saver, graph_of(False, [log_a]), called=called)
    flow = transactional(graph) if wrap else graph
    with pytest.raises(ConfigError, match=r"'log_a'.*checkpointer=False"):
        await flow.ainvoke({"seen": []}, thread)
    assert await journal(bank) == []


@pytest.mark.parametrize("wrap", [False, True])
async def test_subgraph_without_a_checkpointer_may_run_if_it_does_not_touch_the_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    async def pure(state: Any) -> Any:
        return {"seen": [("pure", 1)]}

    graph = around(saver, graph_of(False, [pure]), called=True)
    flow = transactional(graph) if wrap else graph
    result = await flow.ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("pure", 1), ("after", 1)]


async def test_graph_without_our_saver_has_no_step(thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        with pytest.raises(NoActiveStep):
            current_step()
        return {"n": 1}

    assert (await graph_of(None, [node]).ainvoke({"n": 0}))["n"] == 1
