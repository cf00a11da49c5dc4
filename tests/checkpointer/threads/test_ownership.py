"""A thread has one owner and one head: workers that lost it commit and store nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import (
    StaleRun,
    ThreadMismatch,
)
from tests.support.bank import BALANCE, LOG, SET
from tests.support.graphs import chain, fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_a_worker_that_lost_its_thread_commits_nothing(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Two processes, here two savers: the second takes the thread over while the first one thinks."""
    first_thinks, second_is_done = asyncio.Event(), asyncio.Event()
    name = "first"

    async def node(state: Any) -> Any:
        step, me = current_step(), name
        balance = await step.fetchval(BALANCE, 1)
        if me == "first":
            first_thinks.set()
            await second_is_done.wait()
        step.stage(SET, balance - 10, 1)
        return {"seen": [me]}

    async with TransactionalSaver.from_conn_string(database_url) as other:
        slow = asyncio.create_task(chain(saver, node).ainvoke({"seen": []}, thread))
        await first_thinks.wait()
        name = "second"
        assert (await chain(other, node).ainvoke(None, thread))["seen"] == ["second"]
        second_is_done.set()
        with pytest.raises(StaleRun):
            await slow
        state = await chain(other, node).aget_state(thread)
    assert state.values["seen"] == ["second"]
    assert await bank.balance() == 90


async def test_a_fenced_worker_stores_no_pending_writes_either(
    database_url: str, saver: TransactionalSaver, thread: RunnableConfig, bank: Bank
) -> None:
    holding, resumed = asyncio.Event(), asyncio.Event()
    name = "first"

    async def quick(state: Any) -> Any:
        me = name
        if me == "first":
            await resumed.wait()
        return {"seen": [f"quick {me}"]}

    async def slow(state: Any) -> Any:
        me = name
        if me == "first":
            holding.set()
            await asyncio.Event().wait()
        return {"seen": [f"slow {me}"]}

    async with TransactionalSaver.from_conn_string(database_url) as other:
        first = asyncio.create_task(fan(saver, quick, slow).ainvoke({"seen": []}, thread))
        await holding.wait()
        name = "second"
        while await other.aget_tuple(thread) is None:  # nodes start before their input is committed
            pass  # and looking takes nothing over
        second = fan(other, quick, slow)
        taken = asyncio.Event()

        async def claimed() -> None:
            taken.set()

        failpoints.arm("run.claimed", claimed)
        run = asyncio.create_task(second.ainvoke(None, thread))
        await taken.wait()
        resumed.set()
        assert (await run)["seen"] == ["quick second", "slow second"]
        first.cancel()
        with pytest.raises((asyncio.CancelledError, StaleRun)):
            await first
    rows = await bank.do("SELECT count(*) FROM runtime.task_write WHERE channel = 'seen' AND task_path <> ''")
    assert rows[0][0] <= 3  # one each of the second run, and the input's


async def test_update_state_fences_a_run_under_way(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    thinking, go_on = asyncio.Event(), asyncio.Event()

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        thinking.set()
        await go_on.wait()
        current_step().stage(SET, 1, 1)
        return {"n": 1}

    graph = chain(saver, node)
    run = asyncio.create_task(graph.ainvoke({"n": 0}, thread))
    await thinking.wait()
    await graph.aupdate_state(thread, {"n": 50}, as_node="node")
    go_on.set()
    with pytest.raises(StaleRun):
        await run
    assert (await graph.aget_state(thread)).values["n"] == 50
    assert await bank.balance() == 100


async def test_a_thread_belongs_to_its_graph(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        return {"n": 1}

    await transactional(chain(saver, node), name="first").ainvoke({}, thread)
    with pytest.raises(ThreadMismatch):
        await transactional(chain(saver, node), name="second").ainvoke({}, thread)
    assert (await transactional(chain(saver, node), name="first").ainvoke({}, thread))["n"] == 1


async def test_the_head_counts_not_the_greatest_id(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose clock is ahead makes ids that later workers cannot exceed."""
    from langgraph.pregel import _checkpoint

    real = _checkpoint.uuid6

    async def node(state: Any) -> Any:
        current_step().stage(LOG, "x")
        return {"seen": ["x"]}

    graph = chain(saver, node)
    monkeypatch.setattr(_checkpoint, "uuid6", lambda **kw: "f" + str(real(**kw))[1:])
    await graph.ainvoke({"seen": ["first"]}, thread)
    monkeypatch.undo()
    for expected in (["first", "x", "second", "x"], ["first", "x", "second", "x", "third", "x"]):
        assert (await graph.ainvoke({"seen": [expected[-2]]}, thread))["seen"] == expected
    assert (await graph.aget_state(thread)).values["seen"][-2:] == ["third", "x"]
    assert len(await bank.journal()) == 3


async def test_a_fencing_token_is_never_used_twice(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """A thread is deleted and made anew while an old worker of it sleeps."""
    sleeping, wake = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    async def node(state: Any) -> Any:
        runs.append("x")
        if len(runs) == 1:
            sleeping.set()
            await wake.wait()
        current_step().stage(LOG, "x")
        return {"n": len(runs)}

    graph = chain(saver, node)
    old = asyncio.create_task(graph.ainvoke({"n": 0}, thread))
    await sleeping.wait()
    await saver.adelete_thread(thread["configurable"]["thread_id"])
    assert (await graph.ainvoke({"n": 0}, thread))["n"] == 2
    wake.set()
    with pytest.raises(StaleRun):
        await old
    assert await bank.journal() == ["x"]
