"""Streams that are left, cancelled or broken leave a thread that goes on."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.support.bank import BALANCE, LOG, writer
from tests.support.graphs import chain, fan
from tests.support.internals import active, pinned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

    from tests.support.bank import Bank


def three(saver: TransactionalSaver, runs: list[str]) -> CompiledStateGraph[Any]:
    return chain(saver, *(writer(name, runs) for name in ("first", "second", "third")))


@pytest.mark.parametrize("how", ["aclose", "break", "cancel"])
async def test_leaving_a_stream_early_leaves_a_thread_that_goes_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, how: str
) -> None:
    runs: list[str] = []
    flow = transactional(three(saver, runs))
    has_first = asyncio.Event()

    async def consume() -> None:
        stream = flow.astream({"seen": []}, thread, stream_mode="updates")
        async with aclosing(stream):
            async for chunk in stream:
                assert chunk == {"first": {"seen": ["first"]}}
                has_first.set()
                if how == "aclose":
                    await stream.aclose()
                if how != "cancel":
                    break
                await asyncio.Event().wait()

    async with asyncio.timeout(30):
        consumer = asyncio.create_task(consume())
        await has_first.wait()
        if how == "cancel":
            consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
        assert pinned(saver) == 0
        assert active(saver) == set()
        result = await flow.ainvoke(None, thread)
    assert result["seen"] == ["first", "second", "third"]
    assert await bank.journal() == ["first", "second", "third"]
    assert pinned(saver) == 0


async def test_cancelling_a_node_at_work_leaves_a_thread_that_goes_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    working, patient = asyncio.Event(), [False]

    async def first(state: Any) -> Any:
        current_step().stage(LOG, "first")
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "second")
        if not patient[0]:
            working.set()
            await asyncio.Event().wait()
        return {"seen": ["second"]}

    flow = transactional(chain(saver, first, second))
    async with asyncio.timeout(30):
        task = asyncio.create_task(flow.ainvoke({"seen": []}, thread))
        await working.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pinned(saver) == 0
        assert await bank.journal() == ["first"]
        patient[0] = True
        assert (await flow.ainvoke(None, thread))["seen"] == ["first", "second"]
    assert await bank.journal() == ["first", "second"]
    assert (await flow.areport(thread)).status == "completed"


@pytest.mark.parametrize("mode", ["updates", "values"])
async def test_an_exception_in_a_node_leaves_a_thread_that_goes_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, mode: Any
) -> None:
    broken = [True]

    async def first(state: Any) -> Any:
        current_step().stage(LOG, "first")
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "second")
        if broken[0]:
            raise ValueError("out of paper")
        return {"seen": ["second"]}

    flow = transactional(chain(saver, first, second))
    seen: list[Any] = []

    async def collect(given: Any) -> None:
        seen.clear()
        stream = flow.astream(given, thread, stream_mode=mode)
        await _into(seen, stream, lambda chunk: chunk["seen"] if mode == "values" else chunk)

    with pytest.raises(ValueError, match="out of paper"):
        await collect({"seen": []})
    assert seen == ([[], ["first"]] if mode == "values" else [{"first": {"seen": ["first"]}}])
    assert pinned(saver) == 0
    assert (await flow.areport(thread)).status == "failed"
    broken[0] = False
    await collect(None)
    expected = [["first"], ["first", "second"]] if mode == "values" else [{"second": {"seen": ["second"]}}]
    assert seen == expected
    assert await bank.journal() == ["first", "second"]
    assert pinned(saver) == 0
    assert (await flow.areport(thread)).status == "completed"


async def test_a_sibling_of_a_failing_node_is_not_lost(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """What had finished is kept with its staged writes, and is neither run nor written twice."""
    broken, runs = [True], []
    finished = asyncio.Event()

    async def fine(state: Any) -> Any:
        runs.append("fine")
        current_step().stage(LOG, "fine")
        finished.set()
        return {"seen": ["fine"]}

    async def failing(state: Any) -> Any:
        await finished.wait()
        for _ in range(3):
            await current_step().fetchval(BALANCE, 1)  # round trips: the sibling's result is saved meanwhile
        if broken[0]:
            raise ValueError("out of paper")
        return {"seen": ["failing"]}

    flow = transactional(fan(saver, failing, fine))
    seen: list[Any] = []

    async def collect(given: Any) -> None:
        seen.clear()
        await _into(seen, flow.astream(given, thread, stream_mode="updates"))

    with pytest.raises(ValueError, match="out of paper"):
        await collect({"seen": []})
    assert seen == []
    assert await bank.journal() == []
    broken[0] = False
    await collect(None)
    assert [chunk for chunk in seen if "failing" in chunk] == [{"failing": {"seen": ["failing"]}}]
    (kept,) = [chunk for chunk in seen if "fine" in chunk]
    assert kept == {"fine": {"seen": ["fine"]}, "__metadata__": {"cached": True}}  # LangGraph's word for a kept result
    assert len(seen) == 2
    assert runs == ["fine"]
    assert await bank.journal() == ["fine"]


async def _into(seen: list[Any], stream: AsyncIterator[Any], shape: Any = None) -> None:
    """Collect chunks one by one, so that those before an error are there after it."""
    async for chunk in stream:
        seen += [shape(chunk) if shape else chunk]
