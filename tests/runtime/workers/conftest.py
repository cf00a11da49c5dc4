"""Workers in this process, on graphs of `flows`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver
from superstep.runtime.settings.settings import RunSettings, WorkerSettings
from superstep.runtime.workers.graphs import Graphs
from superstep.runtime.workers.worker import Worker
from tests.runtime.workers import flows
from tests.support.bank import make_bank

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from superstep.checkpointer import QueuedRun

FLOWS = flows.__name__


@pytest.fixture
async def saver(database_url: str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        await saver.setup()
        await make_bank(saver)
        flows.reset()
        yield saver


@pytest.fixture
async def late(database_url: str, saver: TransactionalSaver) -> AsyncIterator[TransactionalSaver]:
    """The saver of another worker, which is late in some tests."""
    async with TransactionalSaver.from_conn_string(database_url) as late:
        yield late


@asynccontextmanager
async def working(
    saver: TransactionalSaver, said: list[str] | None = None, only: list[str] | None = None, **settings: Any
) -> AsyncIterator[asyncio.Event]:
    """A worker; what it yields stops it."""
    stop = asyncio.Event()
    how = WorkerSettings(**{"concurrency": 4, "lease": 2.0, "grace": 10.0, **settings})
    async with Graphs(saver, RunSettings(), only) as graphs:
        work = asyncio.create_task(Worker(saver, graphs, how, (said if said is not None else []).append).work(stop))
        try:
            yield stop
        finally:
            stop.set()
            await work


async def until(condition: Callable[[], Any]) -> Any:
    """What it says, as soon as that is true; it may be awaitable."""
    async with asyncio.timeout(60):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


async def ended(saver: TransactionalSaver, count: int = 1) -> list[QueuedRun]:
    """So many runs, the first one first, when they have all ended."""

    async def all_ended() -> list[QueuedRun] | None:
        found = await saver.fleet.runs()
        return found[::-1] if len(found) == count and all(run.ended_at for run in found) else None

    found: list[QueuedRun] = await until(all_ended)
    return found
