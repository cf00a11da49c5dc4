"""Fan-out with `Send`, and `Command` in its directions."""

from __future__ import annotations

import asyncio
import itertools
import operator
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ConfigError, StepConflict
from tests.support.bank import BALANCE, DEBIT, LOG
from tests.support.graphs import State, fan, steps_of
from tests.support.internals import pinned
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

    from tests.support.bank import Bank


class MapState(TypedDict, total=False):
    accounts: list[int]
    found: Annotated[list[tuple[int, int]], operator.add]


def map_reduce(saver: TransactionalSaver, worker: Any) -> CompiledStateGraph[Any]:
    async def total(state: Any) -> Any:
        current_step().stage(LOG, str(sum(value for _, value in state["found"])))

    builder = StateGraph(MapState)
    builder.add_node("worker", worker)
    builder.add_node("total", total)
    builder.add_conditional_edges(START, lambda s: [Send("worker", {"account": i}) for i in s["accounts"]], ["worker"])
    builder.add_edge("worker", "total")
    return builder.compile(checkpointer=saver)


async def test_only_the_drifted_send_task_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 7, account=2)
    all_have_read = asyncio.Barrier(3)
    runs: Counter[int] = Counter()

    async def worker(state: Any) -> Any:
        account = state["account"]
        runs[account] += 1
        step = current_step()
        value = await step.fetchval(BALANCE, account)
        if not race.over:
            await all_have_read.wait()
            if account == 2:
                await race.move()
        step.stage(DEBIT, account, expect_rows=1)
        return {"found": [(account, value)]}

    flow = transactional(map_reduce(saver, worker))
    result = await flow.ainvoke({"accounts": [1, 2, 3]}, thread)
    assert [tuple(pair) for pair in result["found"]] == [(1, 100), (2, 7), (3, 100)]
    assert runs == {1: 1, 2: 2, 3: 1}
    assert [await bank.balance(i) for i in (1, 2, 3)] == [99, 6, 99]
    assert await bank.journal() == ["207"]
    workers, total = await steps_of(saver, thread)
    assert (workers.nodes, workers.attempts, workers.drifts, workers.reads, workers.writes) == (["worker"], 2, 1, 3, 3)
    assert (total.nodes, total.attempts) == (["total"], 1)


async def test_plain_graph_names_the_drifted_send_task(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 7, account=2)
    runs: Counter[int] = Counter()

    async def worker(state: Any) -> Any:
        account = state["account"]
        runs[account] += 1
        value = await current_step().fetchval(BALANCE, account)
        if account == 2:
            await race.move()
            current_step().stage(DEBIT, account, expect_rows=1)
        return {"found": [(account, value)]}

    graph = map_reduce(saver, worker)
    with pytest.raises(StepConflict) as caught:
        await graph.ainvoke({"accounts": [1, 2, 3]}, thread)
    assert caught.value.tasks == ("worker",)
    result = await graph.ainvoke(None, thread)
    assert [tuple(pair) for pair in result["found"]] == [(1, 100), (2, 7), (3, 100)]
    assert runs == {1: 1, 2: 2, 3: 1}


async def test_command_routes_and_updates_with_the_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 5)

    async def decide(state: Any) -> Command[Any]:
        step = current_step()
        value = await race.read()
        step.stage(LOG, f"decided on {value}")
        step.stage(DEBIT, 1, expect_rows=1)
        return Command(goto="rich" if value > 50 else "poor", update={"seen": [value]})

    async def rich(state: Any) -> Any:
        current_step().stage(LOG, "rich")

    async def poor(state: Any) -> Any:
        current_step().stage(LOG, "poor")

    builder = StateGraph(State)
    builder.add_node("decide", decide, destinations=("rich", "poor"))
    builder.add_node("rich", rich)
    builder.add_node("poor", poor)
    builder.add_edge(START, "decide")
    result = await transactional(builder.compile(checkpointer=saver)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [5]
    assert await bank.journal() == ["decided on 5", "poor"]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("called", [False, True])
async def test_command_to_the_parent_applies_what_the_inner_node_staged(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, called: bool, wrap: bool
) -> None:
    """The inner super-step has no barrier of its own then; the parent's commit takes its reads and writes along."""

    async def leave(state: Any) -> Command[Any]:
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        step.stage(LOG, "leaving")
        return Command(graph=Command.PARENT, goto="target", update={"seen": [("leave", value)]})

    inner = StateGraph(State)
    inner.add_node("leave", leave)
    inner.add_edge(START, "leave")
    sub = inner.compile()

    async def call(state: Any) -> Any:
        return await sub.ainvoke({"seen": []})

    async def target(state: Any) -> Any:
        return {"seen": [("target", await current_step().fetchval("SELECT count(*) FROM journal"))]}

    builder = StateGraph(State)
    builder.add_node("sub", call if called else sub, destinations=("target",))
    builder.add_node("target", target)
    builder.add_edge(START, "sub")
    graph = builder.compile(checkpointer=saver)
    flow = transactional(graph) if wrap else graph
    result = await flow.ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("leave", 100), ("target", 1)]
    assert await bank.journal() == ["leaving"]
    assert pinned(saver) <= 1


async def test_command_to_the_parent_conflicts_when_what_the_inner_node_read_moved(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 55)

    async def leave(state: Any) -> Command[Any]:
        return Command(graph=Command.PARENT, goto=END, update={"seen": [await race.decide()]})

    inner = StateGraph(State)
    inner.add_node("leave", leave)
    inner.add_edge(START, "leave")
    builder = StateGraph(State)
    builder.add_node("sub", inner.compile())
    builder.add_edge(START, "sub")
    result = await transactional(builder.compile(checkpointer=saver)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [55]
    assert await bank.balance() == 54


@pytest.mark.parametrize("stateful", [None, True])
async def test_leaving_a_subgraph_for_its_parent_keeps_what_was_staged(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, stateful: bool | None
) -> None:
    async def inner(state: Any) -> Any:
        current_step().stage(LOG, "inner")
        return Command(graph=Command.PARENT, goto=END, update={"seen": ["inner"]})

    sub = StateGraph(State).add_node(inner).add_edge(START, "inner").compile(checkpointer=stateful)
    graph = StateGraph(State).add_node("sub", sub, destinations=(END,)).add_edge(START, "sub")
    result = await transactional(graph.compile(checkpointer=saver)).ainvoke({"seen": []}, thread)
    assert result["seen"] == ["inner"]
    assert await bank.journal() == ["inner"]


def sent_twice(inner: Any, saver: TransactionalSaver) -> CompiledStateGraph[Any]:
    builder = StateGraph(State).add_node("inner", inner)
    builder.add_conditional_edges(
        START, lambda _: [Send("inner", {"seen": []}), Send("inner", {"seen": []})], ["inner"]
    )
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("when", ["before the second call", "in both calls"])
async def test_a_stateful_subgraph_that_several_tasks_run_at_once_has_no_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, when: str
) -> None:
    """Both calls have the same checkpoints and task ids: what they stage could be applied twice, or not at all."""
    both, used, calls = asyncio.Barrier(2), asyncio.Event(), itertools.count()

    async def stages(state: Any) -> Any:
        if when == "in both calls":
            await both.wait()
        current_step().stage(LOG, "once a call")
        used.set()
        await asyncio.Event().wait()

    inner = StateGraph(State).add_node(stages).add_edge(START, "stages").compile(checkpointer=True)

    async def call(state: Any) -> Any:
        if next(calls) and when == "before the second call":
            await used.wait()
        return await inner.ainvoke({"seen": []})

    with pytest.raises(ConfigError, match="checkpointer=True"):
        await transactional(sent_twice(call, saver)).ainvoke({"seen": []}, thread)
    assert await bank.journal() == []


async def test_a_stateful_subgraph_that_tasks_run_one_after_the_other_has_its_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def writes(state: Any) -> Any:
        current_step().stage(LOG, "once a call")

    inner = StateGraph(State).add_node(writes).add_edge(START, "writes").compile(checkpointer=True)
    await transactional(sent_twice(inner, saver)).ainvoke({"seen": []}, {**thread, "max_concurrency": 1})
    assert await bank.journal() == ["once a call", "once a call"]


async def test_a_stateful_subgraph_that_several_tasks_enter_without_a_step_may_be_resumed(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    outage = True

    async def passes(state: Any) -> Any:
        return {"seen": ["passed"]}

    async def fails(state: Any) -> Any:
        if outage:
            raise ValueError("once")
        return {"seen": ["done"]}

    graph = sent_twice(fan(True, passes, fails), saver)
    with pytest.raises(ValueError, match="once"):
        await graph.ainvoke({"seen": []}, thread)
    outage = False
    result = await transactional(graph).ainvoke(None, thread)
    assert result["seen"].count("done") >= 1
