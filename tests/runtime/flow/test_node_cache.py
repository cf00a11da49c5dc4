"""Cached results never stand for facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.graph import START, StateGraph
from langgraph.types import CachePolicy

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ConfigError
from tests.support.bank import BALANCE, DEBIT
from tests.support.graphs import State
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

    from tests.support.bank import Bank


def cached(saver: TransactionalSaver, node: Any) -> CompiledStateGraph[Any]:
    builder = StateGraph(State)
    builder.add_node("node", node, cache_policy=CachePolicy(key_func=lambda state: b"same"))
    builder.add_edge(START, "node")
    return builder.compile(checkpointer=saver, cache=InMemoryCache())


async def debit(state: Any) -> Any:
    step = current_step()
    step.stage(DEBIT, 1, expect_rows=1)
    return {"n": await step.fetchval(BALANCE, 1)}


async def test_cached_node_that_touches_no_facts_is_not_run_twice(saver: TransactionalSaver, new_thread: Any) -> None:
    runs: list[int] = []

    async def node(state: Any) -> Any:
        runs.append(1)
        return {"n": 5}

    flow = transactional(cached(saver, node))
    assert (await flow.ainvoke({"n": 0}, new_thread()))["n"] == 5
    assert (await flow.ainvoke({"n": 0}, new_thread()))["n"] == 5
    assert runs == [1]


async def test_conflict_of_a_cached_node_is_not_answered_from_the_cache(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """LangGraph caches a result before the super-step commits; a result that was taken back must not come back."""
    race = Race(bank, 55)

    async def node(state: Any) -> Any:
        return {"n": await race.decide()}

    assert (await transactional(cached(saver, node)).ainvoke({"n": 0}, thread))["n"] == 55
    assert race.seen == [100, 55]
    assert await bank.balance() == 54


async def test_cached_result_never_stands_for_facts_and_writes(
    saver: TransactionalSaver, bank: Bank, new_thread: Any
) -> None:
    """A second thread hits the cache: its node must not pass for one that read and wrote."""

    flow = transactional(cached(saver, debit))
    assert (await flow.ainvoke({"n": 0}, new_thread()))["n"] == 100
    assert (await flow.ainvoke({"n": 0}, new_thread()))["n"] == 99
    assert await bank.balance() == 98


async def test_plain_graph_refuses_a_cached_result_that_rests_on_facts(
    saver: TransactionalSaver, bank: Bank, new_thread: Any
) -> None:
    graph = cached(saver, debit)
    assert (await graph.ainvoke({"n": 0}, new_thread()))["n"] == 100
    with pytest.raises(ConfigError, match="cache"):
        await graph.ainvoke({"n": 0}, new_thread())
    assert await bank.balance() == 99
