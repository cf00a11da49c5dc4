"""Clocks that jump back: those of workers, which make the ids of checkpoints, and that of the database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.pregel import _checkpoint

from superstep import transactional
from superstep.checkpointer import Retention, Rule, TransactionalSaver, current_step
from tests.support.bank import BALANCE, SET, Bank
from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

DAY = timedelta(days=1)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on ids are made by a clock that is far ahead; call it, and the clock has jumped back."""
    real = _checkpoint.uuid6
    monkeypatch.setattr(_checkpoint, "uuid6", lambda **kw: "f" + str(real(**kw))[1:])
    return lambda: monkeypatch.setattr(_checkpoint, "uuid6", real)


async def _node(state: Any) -> Any:
    balance = await current_step().fetchval(BALANCE, 1)
    current_step().stage(SET, balance - 1, 1)
    return {"n": state["n"] + 1, "bag": {"n": state["n"]}}


async def _after_the_jump(saver: TransactionalSaver, ahead: Callable[[], None], thread: RunnableConfig) -> Any:
    """A thread whose latest checkpoints have the smaller ids."""
    graph = transactional(chain(saver, _node))
    await graph.ainvoke({"n": 10}, thread)
    ahead()
    assert (await graph.ainvoke({"n": 20}, thread))["n"] == 21
    assert (await graph.aget_state(thread)).values["n"] == 21
    return graph


async def test_pruning_keeps_the_latest_state(
    saver: TransactionalSaver, bank: Bank, ahead: Callable[[], None], thread: RunnableConfig
) -> None:
    graph = await _after_the_jump(saver, ahead, thread)
    name = thread["configurable"]["thread_id"]
    await saver.aprune([name])
    assert (await graph.aget_state(thread)).values["n"] == 21
    assert len([state async for state in graph.aget_state_history(thread)]) == 1
    assert (await graph.ainvoke({"n": 30}, thread))["n"] == 31
    assert await bank.balance() == 97


async def test_a_sweep_keeps_the_latest_state(
    saver: TransactionalSaver, bank: Bank, ahead: Callable[[], None], thread: RunnableConfig
) -> None:
    graph = await _after_the_jump(saver, ahead, thread)
    await bank.do("UPDATE runtime.thread SET updated_at = now() - interval '2 days'")
    assert (await saver.asweep(Retention(Rule(DAY, keep_latest=True)))).shortened == 1
    assert (await graph.aget_state(thread)).values["n"] == 21
    assert (await graph.ainvoke({"n": 30}, thread))["n"] == 31


@pytest.mark.parametrize("last", [True, False])
async def test_deleting_a_run_leaves_the_latest_of_the_other_states(
    saver: TransactionalSaver, ahead: Callable[[], None], thread: RunnableConfig, *, last: bool
) -> None:
    graph = chain(saver, _node)
    for run, n in (("first", 10), ("second", 20), ("third", 30)):
        await graph.ainvoke({"n": n}, {**thread, "metadata": {"run_id": run}})
        ahead()
    await saver.adelete_for_runs(["second" if last else "third"])
    assert (await graph.aget_state(thread)).values["n"] == (31 if last else 21)
    assert (await graph.ainvoke({"n": 40}, thread))["n"] == 41


async def test_threads_that_changed_in_the_future_are_listed_and_not_taken(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The database's clock was ahead when they ran. They grow old when it has caught up, and not before."""
    graph = transactional(chain(saver, _node))
    await graph.ainvoke({"n": 10}, thread)
    await bank.do("UPDATE runtime.thread SET updated_at = now() + interval '1 year'")
    await graph.ainvoke({"n": 0}, {"configurable": {"thread_id": "now"}})
    assert [each.thread_id for each in await saver.athreads(1)] == [thread["configurable"]["thread_id"]]
    assert [each.thread_id for each in await saver.athreads(1, after=(await saver.athreads(1))[0])] == ["now"]
    assert (await saver.asweep(Retention(Rule(timedelta(microseconds=1))))).deleted == 1
    assert [each.thread_id for each in await saver.athreads()] == [thread["configurable"]["thread_id"]]
    assert (await graph.ainvoke({"n": 20}, thread))["n"] == 21, "it can be run"
