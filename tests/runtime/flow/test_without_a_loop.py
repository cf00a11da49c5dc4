"""`invoke` and `stream` are LangGraph's synchronous loop: the nodes' synchronous side, at the consumer's pace."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.support.bank import BALANCE, Bank
from tests.support.graphs import State, chain, config_of
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

pytestmark = pytest.mark.timeout(60)


def two_sided(sides: list[str]) -> Any:
    def synchronous(state: Any) -> Any:
        sides.append("synchronous")
        return {"seen": [current_step().sync.fetchval(BALANCE, 1)]}

    async def asynchronous(state: Any) -> Any:
        sides.append("asynchronous")
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    return RunnableLambda(synchronous, asynchronous, name="node")


def test_each_way_calls_the_nodes_by_its_own_side(sync_saver: TransactionalSaver) -> None:
    sides: list[str] = []
    graph = StateGraph(State).add_node("node", two_sided(sides)).add_edge(START, "node").compile(sync_saver)
    flow = transactional(graph)
    assert flow.invoke({"seen": []}, config_of("a"))["seen"] == [100]
    assert list(flow.stream({"seen": []}, config_of("b"), stream_mode="updates")) == [{"node": {"seen": [100]}}]
    assert asyncio.run(flow.ainvoke({"seen": []}, config_of("c")))["seen"] == [100]
    assert sides == ["synchronous", "synchronous", "asynchronous"]


def test_what_belongs_to_a_loop_may_be_shared_with_asynchronous_code(sync_saver: TransactionalSaver) -> None:
    """A client that binds itself to the first loop it is used on, as connections of HTTP clients do."""
    loops: set[Any] = set()

    async def use() -> None:
        loops.add(asyncio.get_running_loop())
        assert len(loops) == 1

    async def asynchronous(state: Any) -> Any:
        await use()
        return {"n": 2}

    node = RunnableLambda(lambda state: {"n": 1}, asynchronous, name="node")
    flow = transactional(StateGraph(State).add_node("node", node).add_edge(START, "node").compile(sync_saver))
    assert flow.invoke({"n": 0}, config_of("a"))["n"] == 1

    async def main() -> None:
        await use()
        assert (await flow.ainvoke({"n": 0}, config_of("b")))["n"] == 2

    asyncio.run(main())


def test_a_node_that_is_asynchronous_only_is_refused_as_langgraph_refuses_it(sync_saver: TransactionalSaver) -> None:
    async def node(state: Any) -> Any:
        return {}

    flow = transactional(chain(sync_saver, node))
    with pytest.raises(TypeError, match="No synchronous function"):
        flow.invoke({"seen": []}, config_of("a"))


def test_nodes_run_on_the_thread_that_langgraph_runs_them_on(sync_saver: TransactionalSaver) -> None:
    threads: dict[str, list[Any]] = {}

    def node(state: Any) -> Any:
        threads.setdefault(state["bag"]["name"], []).append(threading.current_thread())
        return {}

    for name, graph in (("theirs", chain(InMemorySaver(), node)), ("ours", transactional(chain(sync_saver, node)))):
        graph.invoke({"seen": [], "bag": {"name": name}}, config_of(name))
    assert threads["ours"] == threads["theirs"]


@pytest.mark.parametrize("mode", ["updates", "values", "tasks", ["updates", "values"]])
def test_the_graph_does_not_run_ahead_of_its_consumer(
    sync_saver: TransactionalSaver, thread: RunnableConfig, mode: Any
) -> None:
    """At every item, the nodes that have run are those that LangGraph would have run."""
    at_items: dict[str, list[list[str]]] = {}
    for name, saver in (("theirs", InMemorySaver()), ("ours", sync_saver)):
        ran: list[str] = []

        def node(label: str, ran: list[str] = ran) -> Any:
            def run(state: Any) -> Any:
                ran.append(label)
                return {"seen": [label]}

            run.__name__ = label
            return run

        graph = chain(saver, *map(node, "abcd"))
        flow = transactional(graph) if name == "ours" else graph
        at_items[name] = [list(ran) for _ in flow.stream({"seen": []}, config_of("t"), stream_mode=mode)]
    if mode == "tasks":  # shown with their commit, so a task that starts is shown when it has ended
        assert all(len(ran) <= 1 + at // 2 for at, ran in enumerate(at_items["ours"]))
    else:
        assert at_items["ours"] == at_items["theirs"]


def test_conflicts_are_retried_at_the_consumers_pace(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    race = Race(Bank(sync_saver), 55, 44)

    def first(state: Any) -> Any:
        return {"seen": [race.decide_sync()]}

    def second(state: Any) -> Any:
        return {"seen": [race.decide_sync()]}

    flow = transactional(chain(sync_saver, first, second))
    chunks = flow.stream({"seen": []}, thread, stream_mode="updates")
    assert next(chunks) == {"first": {"seen": [44]}}
    assert race.seen == [100, 55, 44]
    assert list(chunks) == [{"second": {"seen": [43]}}]
