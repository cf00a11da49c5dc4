"""Blocking a thread on what an event loop in another thread does. Like `faults` on the floor: it knows nothing of ours.

Synchronous methods do not get a second implementation: they run the asynchronous one and wait. The caller's context
variables come along, so whatever depends on the running node works the same.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator

__all__ = ["iterate", "wait_for"]

T = TypeVar("T")


def wait_for(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """Run `work` on a loop of another thread and block this one until it is done; interrupted, cancel it."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def iterate(items: AsyncGenerator[T, None], loop: asyncio.AbstractEventLoop, *, leave: float = 0.0) -> Iterator[T]:
    """The items of an asynchronous generator that runs on a loop of another thread.

    Args:
        items: closed when it ends, and when the iteration is left early.
        loop: where it runs.
        leave: seconds to wait, after an iteration that was left early, until the generator has wound down.
    """
    ready: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    running: list[asyncio.Task[None]] = []
    ended = threading.Event()

    async def pump() -> None:
        try:
            async with aclosing(items):
                async for item in items:
                    ready.put((True, item))
        except BaseException as e:  # noqa: BLE001 - raised in the waiting thread
            ready.put((False, e))
        else:
            ready.put((False, None))

    def start() -> None:
        running.append(loop.create_task(pump()))
        running[0].add_done_callback(lambda _: ended.set())

    loop.call_soon_threadsafe(start)
    try:
        while True:
            more, item = ready.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        if not ended.is_set():
            loop.call_soon_threadsafe(lambda: running[0].cancel())
            ended.wait(leave)
