"""Workers in the test's own process, and what they deliver."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from superstep.checkpointer import OutboxEffect, TransactionalSaver
    from superstep.effects import Effect

_PATIENCE = 30


class Received:
    """A receiver of effects: what came, in order. With `fail` set, what to raise instead of taking one."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.tried: list[Effect] = []
        self.fail: Callable[[Effect], BaseException | None] = lambda _: None
        self._changed = asyncio.Event()

    async def __call__(self, effect: Effect) -> None:
        self.tried.append(effect)
        try:
            if (error := self.fail(effect)) is not None:
                raise error
            self.effects.append(effect)
        finally:
            self._changed.set()

    @property
    def payloads(self) -> list[Any]:
        return [effect.payload for effect in self.effects]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until that holds; looked at whenever something came."""
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def has(self, count: int) -> None:
        """Wait until so many were taken."""
        await self.until(lambda: len(self.effects) >= count)


@asynccontextmanager
async def working(
    saver: TransactionalSaver, *, concurrency: int = 4, lease: float = 5.0
) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that delivers effects, until the end of the block."""
    stop = asyncio.Event()
    work = saver.queue.work(saver.effect_handlers(), concurrency=concurrency, lease=lease, stop=stop)
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait([task], timeout=_PATIENCE)
        if not task.cancelled():
            await task


async def states(saver: TransactionalSaver) -> list[str]:
    """The states of all effects, oldest first."""
    return [effect.state for effect in await outbox(saver)]


async def outbox(saver: TransactionalSaver) -> list[OutboxEffect]:
    """All effects, oldest first."""
    return (await saver.outbox.effects())[::-1]


async def become(saver: TransactionalSaver, *wanted: str) -> None:
    """Wait until the effects, oldest first, have these states."""
    async with asyncio.timeout(_PATIENCE):
        while await states(saver) != list(wanted):
            pass


async def settled(saver: TransactionalSaver) -> None:
    """Wait until the queue is empty."""
    async with asyncio.timeout(_PATIENCE):
        while await jobs(saver):
            pass


async def jobs(saver: TransactionalSaver) -> int:
    """How many jobs the queue has."""
    async with saver.transaction() as tx:
        return int(await tx.fetchval("SELECT count(*) FROM runtime.queue_pgqueuer"))
