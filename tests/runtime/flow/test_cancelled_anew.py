"""A run whose task is cancelled again at each thing that it awaits, as `anyio` does, gives its thread back.

That is what becomes of a request whose client hangs up: Starlette runs it in a cancel scope of `anyio`.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from superstep import Settings, TransactionalSaver, transactional
from superstep.checkpointer import current_step
from tests.support.bank import BALANCE
from tests.support.graphs import chain
from tests.support.internals import active, pinned

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


class Thinks:
    """A node that has read, and thinks until it is cancelled."""

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()

    async def node(self, state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def is_set(event: threading.Event) -> None:
    async with asyncio.timeout(30):
        while not event.is_set():  # noqa: ASYNC110 - set by a thread, perhaps
            await asyncio.sleep(0.005)


async def is_nobodys(saver: TransactionalSaver, url: str, thread: RunnableConfig) -> None:
    """Soon nothing is held, and another process that would not take the thread from anybody runs it."""
    async with asyncio.timeout(30), TransactionalSaver.from_conn_string(url) as elsewhere:
        while await elsewhere.arunner(thread["configurable"]["thread_id"]) or active(saver) or pinned(saver):
            pass
        flow = transactional(chain(elsewhere, lambda state: {"seen": ["went on"]}), settings=Settings(take_over=False))
        assert (await flow.ainvoke({}, thread))["seen"] == ["went on"]


@pytest.mark.parametrize("strategy", [None, "enqueue"])
@pytest.mark.parametrize("streams", [False, True])
async def test_it_leaves_a_free_thread(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, database_url: str, *, streams: bool, strategy: Any
) -> None:
    thinks = Thinks()
    flow = transactional(chain(saver, thinks.node), settings=Settings(multitask_strategy=strategy))

    async def request() -> None:
        if not streams:
            await flow.ainvoke({}, thread)
        async with aclosing(flow.astream({}, thread)) as chunks:
            async for _ in chunks:
                pass

    async with anyio.create_task_group() as group:
        group.start_soon(request)
        await is_set(thinks.begun)
        group.cancel_scope.cancel()
    assert thinks.ended.is_set()
    await is_nobodys(saver, database_url, thread)


async def test_so_does_one_on_another_loop(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, database_url: str
) -> None:
    thinks = Thinks()
    flow = transactional(chain(saver, thinks.node))

    async def request() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: flow.ainvoke({}, thread))
            await is_set(thinks.begun)
            group.cancel_scope.cancel()

    await asyncio.to_thread(asyncio.run, request())
    assert thinks.ended.is_set()
    await is_nobodys(saver, database_url, thread)
