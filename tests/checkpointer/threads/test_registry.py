"""The runs that a process knows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import (
    ThreadBusy,
)
from tests.support.bank import BALANCE
from tests.support.graphs import chain
from tests.support.internals import keep_at_most

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig


async def test_one_run_of_a_thread_at_a_time_in_a_process(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def node(state: Any) -> Any:
        started.set()
        await go_on.wait()
        return {"n": 1}

    flow = transactional(chain(saver, node))
    run = asyncio.create_task(flow.ainvoke({}, thread))
    await started.wait()
    with pytest.raises(ThreadBusy):
        await flow.ainvoke(None, thread)
    go_on.set()
    assert (await run)["n"] == 1


async def test_runs_that_never_ended_do_not_fill_the_books(
    saver: TransactionalSaver, new_thread: Callable[[], RunnableConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_at_most(3, monkeypatch)

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        return {"seen": [interrupt("?")]}

    graph = chain(saver, node)
    threads = [new_thread() for _ in range(8)]
    for thread in threads:
        await graph.ainvoke({"seen": []}, thread)
    assert (await graph.ainvoke(Command(resume="yes"), threads[0]))["seen"] == ["yes"]
