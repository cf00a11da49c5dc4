"""A stream that its consumer has left gives way: the thread is nobody's, however the stream was left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import StaleRun, ThreadBusy
from tests.support.bank import BALANCE, LOG, Bank, writer
from tests.support.graphs import chain
from tests.support.internals import active, from_thread, pinned

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


def sync_writer(name: str, runs: list[str]) -> Any:
    def node(state: Any) -> Any:
        runs.append(name)
        step = current_step().sync
        step.fetchval(BALANCE, 1)
        step.stage(LOG, name)
        return {"seen": [name]}

    node.__name__ = name
    return node


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("mode", ["updates", "values", "debug"])
async def test_after_break_the_thread_goes_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, mode: Any, *, kept: bool
) -> None:
    runs: list[str] = []
    flow = transactional(chain(saver, writer("first", runs), writer("second", runs), writer("third", runs)))
    streams = []
    async with asyncio.timeout(30):
        stream = flow.astream({"seen": []}, thread, stream_mode=mode)
        async for _ in stream:
            if "first" in runs:
                break
        if kept:
            streams.append(stream)
        del stream
        assert (await flow.ainvoke(None, thread))["seen"] == ["first", "second", "third"]
        for each in streams:
            with pytest.raises(StaleRun):
                await anext(each)
    assert await bank.journal() == ["first", "second", "third"]
    assert runs == ["first", "second", "third"]
    assert active(saver) == set()
    assert pinned(saver) == 0


@pytest.mark.parametrize("kept", [False, True])
def test_without_a_loop_too(sync_saver: TransactionalSaver, thread: RunnableConfig, *, kept: bool) -> None:
    runs: list[str] = []
    flow = transactional(chain(sync_saver, sync_writer("first", runs), sync_writer("second", runs)))
    streams = []
    stream = flow.stream({"seen": []}, thread, stream_mode="updates")
    for _ in stream:
        break
    if kept:
        streams.append(stream)
    del stream
    assert flow.invoke(None, thread)["seen"] == ["first", "second"]
    for each in streams:
        with pytest.raises(StaleRun):
            next(each)
    assert from_thread(sync_saver, Bank(sync_saver).journal()) == ["first", "second"]
    assert runs == ["first", "second"]
    assert pinned(sync_saver) == 0


async def test_a_stream_whose_consumer_waits_is_not_left(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def first(state: Any) -> Any:
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        at_work.set()
        await go_on.wait()
        return {"seen": ["second"]}

    flow = transactional(chain(saver, first, second))

    async def consume() -> list[Any]:
        return [chunk async for chunk in flow.astream({"seen": []}, thread, stream_mode="updates")]

    async with asyncio.timeout(30):
        consumer = asyncio.create_task(consume())
        await at_work.wait()
        with pytest.raises(ThreadBusy):
            await flow.ainvoke(None, thread)
        go_on.set()
        assert await consumer == [{"first": {"seen": ["first"]}}, {"second": {"seen": ["second"]}}]


async def test_what_a_left_run_holds_is_given_back_when_its_thread_is_taken_over(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """It was left at a token, in the middle of a super-step that has a transaction open."""
    from langgraph.config import get_stream_writer

    patient = [False]

    async def node(state: Any) -> Any:
        value = await current_step().fetchval(BALANCE, 1)
        current_step().stage(LOG, "node")
        if not patient[0]:
            get_stream_writer()("reading")
            await asyncio.Event().wait()
        return {"seen": [value]}

    flow = transactional(chain(saver, node))
    async with asyncio.timeout(30):
        stream = flow.astream({"seen": []}, thread, stream_mode="custom")
        assert await anext(stream) == "reading"
        patient[0] = True
        assert (await flow.ainvoke(None, thread))["seen"] == [100]
        assert pinned(saver) == 0
        await stream.aclose()
    assert await bank.journal() == ["node"]
