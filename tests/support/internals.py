"""The one place where tests reach behind the saver's public face."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from superstep.checkpointer.threads import registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    import pytest

    from superstep.checkpointer import TransactionalSaver

T = TypeVar("T")


def pinned(saver: TransactionalSaver) -> int:
    """How many connections of the pool are lent to runs: not for telling, after one, that its turn is free."""
    leaving = sum(len(line.leaving) for line in saver.runs.turns._lines._lines.values())
    return max(0, saver.database.connections.lent - leaving)


def active(saver: TransactionalSaver) -> set[Any]:
    """The threads that have a run under way in this process."""
    return saver.runs.leases.threads()


def from_thread(saver: TransactionalSaver, work: Coroutine[Any, Any, T]) -> T:
    """Have the saver's loop do something, from another thread."""
    return saver.database.home.block(work)


def assert_nothing_pinned(saver: TransactionalSaver) -> None:
    """Every connection was given back; if not, the pool is cut, because closing it would wait for ever."""
    held = pinned(saver)
    if held:
        saver.database.connections.pool.terminate()
    assert held == 0


def connection_of_open_step(saver: TransactionalSaver) -> Any:
    """Take the connection away from the only step of the only run; nothing if there is no step."""
    (run,) = saver.runs._runs.values()
    if not run.steps:
        return None
    (step,) = run.steps.values()
    return step.snapshot._leave()


async def give_back(saver: TransactionalSaver, connection: Any) -> None:
    """Return a connection that was taken away."""
    await saver.database.connections.give_back(connection)


def keep_at_most(runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many runs that have not ended a process remembers."""
    monkeypatch.setattr(registry, "_MOST_RUNS", runs)


def repeat_statements(saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the answer to every statement were lost once, after the server has done what it says."""
    once = saver.database.autocommit

    async def twice(work: Callable[[Any], Awaitable[Any]]) -> Any:
        await once(work)
        return await once(work)

    monkeypatch.setattr(saver.database, "autocommit", twice)


async def checkpoints_wait(saver: TransactionalSaver, many: Callable[[], int]) -> None:
    """Wait until so many checkpoints wait for the one that is being stored."""
    async with asyncio.timeout(20):
        while len(saver._group._queue) < many():  # noqa: ASYNC110 - nothing tells when a queue grows
            await asyncio.sleep(0)


def one_at_a_time(saver: TransactionalSaver) -> None:
    """As if commits had kept aborting each other: from now on they wait for each other."""
    saver._group.order.until = float("inf")


async def commits_wait(saver: TransactionalSaver, many: int) -> None:
    """Wait until so many commits wait for their turn."""
    async with asyncio.timeout(20):
        while len(saver._group.order._waiting) < many:  # noqa: ASYNC110 - nothing tells when a queue grows
            await asyncio.sleep(0)


@asynccontextmanager
async def no_turn_is_free(saver: TransactionalSaver) -> AsyncIterator[None]:
    """As if another commit had its turn until the end: all others wait for theirs."""
    order = saver._group.order
    assert await order.acquire() == (True, None)
    try:
        yield
    finally:
        order.release()
