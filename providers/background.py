"""An event loop in a thread of its own, for callers that cannot await.

Synchronous model calls do not get a second implementation: they run the asynchronous one here and wait. The caller's
context variables come along, so whatever depends on the running node (records, budgets) works the same.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator

__all__ = ["iterate", "wait_for"]

T = TypeVar("T")

_lock = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        if not _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="model-calls", daemon=True).start()
            _loops.append(loop)
        return _loops[0]


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the background loop and block this thread until it is done; interrupted, cancel it."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def iterate(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """The items of an asynchronous generator, which runs on the background loop; left early, it is closed."""
    ready: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    async def pump() -> None:
        try:
            async for item in items:
                ready.put((True, item))
            ready.put((False, None))
        except BaseException as e:
            ready.put((False, e))
            raise
        finally:
            await items.aclose()

    future = asyncio.run_coroutine_threadsafe(pump(), _loop())
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
        future.cancel()
