"""Subgraphs have super-steps and barriers of their own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ConfigError, NoActiveStep, StepConflict
from tests.support.bank import BALANCE, DEBIT, LOG, Bank, make_bank
from tests.support.graphs import State, chain, config_of, steps_of
from tests.support.internals import assert_nothing_pinned, from_thread, pinned
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph


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
    graph = around(saver, chain(checkpointer, log_a, log_b))
    flow = transactional(graph) if wrap else graph
    result = await flow.ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("a", 0), ("b", 1), ("after", 2)]
    assert await bank.journal() == ["a", "b"]
    steps = await steps_of(saver, thread)
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
    graph = around(saver, chain(checkpointer, log_a, log_b), called=True)
    result = await transactional(graph).ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("a", 0), ("b", 1), ("after", 3)]
    assert await bank.journal() == ["a", "b", "caller"]
    assert pinned(saver) == 0


async def test_sync_subgraph_without_a_loop(database_url: str, thread: RunnableConfig) -> None:
    with TransactionalSaver.from_conn_string(database_url) as saver:
        from_thread(saver, make_bank(saver))

        def inner_node(state: Any) -> Any:
            step = current_step().sync
            step.stage(LOG, "inner")
            return {"seen": [step.fetchval(BALANCE, 1)]}

        inner = chain(None, inner_node)

        def outer(state: Any) -> Any:
            return {"seen": inner.invoke({"seen": []})["seen"]}

        graph = chain(saver, outer)
        assert graph.invoke({"seen": []}, thread, durability="sync")["seen"] == [100]
        assert transactional(graph).invoke({"seen": []}, config_of("other"))["seen"] == [100]
        assert from_thread(saver, Bank(saver).journal()) == ["inner", "inner"]


@pytest.mark.parametrize("called", [False, True])
async def test_conflict_in_a_subgraph_runs_only_its_drifted_step_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, called: bool
) -> None:
    race = Race(bank, 55)
    runs: Counter[str] = Counter()

    async def one(state: Any) -> Any:
        runs["one"] += 1
        current_step().stage(LOG, "one")

    async def two(state: Any) -> Any:
        runs["two"] += 1
        return {"seen": [("two", await race.decide())]}

    flow = transactional(around(saver, chain(None, one, two), called=called))
    result = await flow.ainvoke({"seen": []}, thread)
    expected = ["one", "caller"] if called else ["one"]
    assert [tuple(pair) for pair in result["seen"]] == [("two", 55), ("after", len(expected))]
    assert runs == {"one": 1, "two": 2}
    assert await bank.balance() == 54
    assert await bank.journal() == expected


async def test_plain_graph_raises_the_conflict_of_a_subgraph(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 55)

    async def reader(state: Any) -> Any:
        return {"seen": [("reader", await race.decide())]}

    graph = around(saver, chain(None, reader))
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
    race = Race(bank, 55)
    runs: Counter[str] = Counter()

    async def think(state: Any) -> Any:
        runs["think"] += 1
        if inner_writes:
            current_step().stage(LOG, "thought")
        return {"seen": [state["n"]]}

    inner = chain(None, think)

    async def caller(state: Any) -> Any:
        runs["caller"] += 1
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        result = await inner.ainvoke({"n": value, "seen": []})
        await race.move()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": result["seen"]}

    result = await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread)
    assert await bank.balance() == 54
    assert runs["caller"] == 2
    if inner_writes:
        assert runs["think"] == 1
        assert await bank.journal() == ["thought"]
        assert result["seen"] == [100]
    else:
        assert runs["think"] == 2
        assert result["seen"] == [55]


@pytest.mark.parametrize("hold_idle", ["forever"])
async def test_caller_of_a_conflicting_subgraph_gives_its_connection_back(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The caller's own transaction is open while the inner step conflicts; the next attempt must not forget it."""
    race = Race(bank, 55)

    async def think(state: Any) -> Any:
        return {"seen": [await race.decide()]}

    inner = chain(None, think)

    async def caller(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 5)
        return {"seen": (await inner.ainvoke({"seen": []}))["seen"]}

    assert (await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread))["seen"] == [55]
    assert_nothing_pinned(saver)


async def test_stateful_subgraph_keeps_its_state_between_runs_of_the_thread(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def remember(state: Any) -> Any:
        current_step().stage(LOG, f"remember {len(state['seen'])}")
        return {"seen": ["x"]}

    inner = chain(True, remember)

    async def outer(state: Any) -> Any:
        result = await inner.ainvoke({"n": 1})
        return {"n": len(result["seen"])}

    flow = transactional(chain(saver, outer))
    assert [(await flow.ainvoke({"n": 0}, thread))["n"] for _ in range(3)] == [1, 2, 3]
    assert await bank.journal() == ["remember 0", "remember 1", "remember 2"]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("called", [False, True])
async def test_subgraph_without_a_checkpointer_is_refused_by_name(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, called: bool, wrap: bool
) -> None:
    graph = around(saver, chain(False, log_a), called=called)
    flow = transactional(graph) if wrap else graph
    with pytest.raises(ConfigError, match=r"'log_a'.*checkpointer=False"):
        await flow.ainvoke({"seen": []}, thread)
    assert await bank.journal() == []


@pytest.mark.parametrize("wrap", [False, True])
async def test_subgraph_without_a_checkpointer_may_run_if_it_does_not_touch_the_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    async def pure(state: Any) -> Any:
        return {"seen": [("pure", 1)]}

    graph = around(saver, chain(False, pure), called=True)
    flow = transactional(graph) if wrap else graph
    result = await flow.ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("pure", 1), ("after", 1)]


async def test_graph_without_our_saver_has_no_step(thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        with pytest.raises(NoActiveStep):
            current_step()
        return {"n": 1}

    assert (await chain(None, node).ainvoke({"n": 0}))["n"] == 1


@pytest.mark.parametrize("stateful", [None, True])
@pytest.mark.parametrize("hold_idle", [0])
async def test_a_drifted_caller_runs_its_subgraph_again_on_the_new_facts(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, stateful: bool | None
) -> None:
    race = Race(bank, 7)

    async def plan(state: Any) -> Any:
        return {"seen": [f"plan for {state['n']}"]}

    sub = StateGraph(State).add_node(plan).add_edge(START, "plan").compile(checkpointer=stateful)

    async def caller(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        planned = await sub.ainvoke({"n": balance, "seen": []})
        await race.move()
        return {"seen": [balance, planned["seen"][-1]]}

    result = await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [7, "plan for 7"]
