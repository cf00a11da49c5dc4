"""Waiting for what an event loop elsewhere does. Like `faults` on the floor: it knows nothing of ours.

Synchronous methods do not get a second implementation: they run the asynchronous one and wait. The caller's context
variables come along, so whatever depends on the running node works the same.

A loop can be closed, stopped, or stuck in code that never awaits, before the work is handed over or while it is waited
for. No wait here outlasts that: whoever waits looks at the loop now and then (`Pulse`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import queue
import threading
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from superstep.runtime.faults import LoopUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator

__all__ = ["Pulse", "iterate", "wait_for", "wait_from_loop"]

T = TypeVar("T")

_LOOK = 0.5  # seconds between two looks at a loop that is waited for
_STOPPED = 1.0  # seconds that a loop may stand still between two runs of it
_STUCK = 60.0  # seconds that a running loop may take until it gets to what it was given


class Pulse:
    """Whether an event loop still works, for those who wait for it in another thread or on another loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._beat = time.monotonic()
        self._asked = False

    def check(self) -> None:
        """Look at the loop, and ask it for a sign of life that the next look will find.

        Raises:
            LoopUnavailable: the loop is closed, has not run for a second, or is stuck for a minute.
        """
        if self._loop.is_closed():
            raise _unavailable("is closed")
        silent = time.monotonic() - self._beat
        if silent > _STOPPED and not self._loop.is_running():
            raise _unavailable("is not running")
        if silent > _STUCK:
            raise _unavailable(f"has been blocked for {_STUCK:.0f} s by code that does not await")
        if not self._asked:
            self._asked = True
            with suppress(RuntimeError):  # closed this very moment: the next look says so
                self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._beat = time.monotonic()
        self._asked = False


def wait_for(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, *, cancels: bool = True) -> T:
    """Run `work` on a loop of another thread and block this one until it is done.

    Args:
        work: runs there.
        loop: where it runs.
        cancels: whether the work is cancelled if the wait is interrupted; else it goes on.

    Raises:
        LoopUnavailable: the loop does not run it.
    """
    future, pulse = _submit(work, loop), Pulse(loop)
    try:
        while not concurrent.futures.wait([future], _LOOK).done:
            pulse.check()
    except LoopUnavailable:
        _give_up(future, work)
        raise
    except BaseException:
        if cancels:
            future.cancel()
        raise
    return future.result()


async def wait_from_loop(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, *, cancels: bool = True) -> T:
    """Run `work` on another loop and await it here; cancelled, cancel it, if it `cancels`.

    Raises:
        LoopUnavailable: the loop does not run it.
    """
    future, pulse = _submit(work, loop), Pulse(loop)
    here = asyncio.wrap_future(future)
    try:
        while not (await asyncio.wait([here], timeout=_LOOK))[0]:
            pulse.check()
    except LoopUnavailable:
        _give_up(future, work)
        raise
    except BaseException:
        if cancels:
            here.cancel()
        raise
    return here.result()


def iterate(items: AsyncGenerator[T, None], loop: asyncio.AbstractEventLoop, *, leave: float = 0.0) -> Iterator[T]:
    """The items of an asynchronous generator that runs on a loop of another thread.

    Args:
        items: closed when it ends, and when the iteration is left early.
        loop: where it runs.
        leave: seconds to wait, after an iteration that was left early, until the generator has wound down.

    Raises:
        LoopUnavailable: the loop does not run it.
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

    if loop.is_closed():
        raise _unavailable("is closed")
    loop.call_soon_threadsafe(start)
    try:
        while True:
            more, item = _next(ready, loop)
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    except LoopUnavailable:
        leave = 0.0  # nothing there winds down any more
        raise
    finally:
        if not ended.is_set():
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(lambda: running[0].cancel())
            ended.wait(leave)


def _next(ready: queue.SimpleQueue[tuple[bool, Any]], loop: asyncio.AbstractEventLoop) -> tuple[bool, Any]:
    pulse = Pulse(loop)
    while True:
        with suppress(queue.Empty):
            return ready.get(timeout=_LOOK)
        pulse.check()


def _submit(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> concurrent.futures.Future[T]:
    try:
        return asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:
        work.close()
        raise _unavailable("is closed") from None


def _give_up(future: concurrent.futures.Future[T], work: Coroutine[Any, Any, T]) -> None:
    with suppress(RuntimeError):  # it was under way, and its loop is closed by now
        future.cancel()
    if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        work.close()


def _unavailable(how: str) -> LoopUnavailable:
    return LoopUnavailable(
        f"The event loop that would have to do this {how}. A saver works on the event loop it was opened on, as long "
        f"as that runs, and in the process that opened it: keep that loop running, or open a saver here "
        f"(`async with TransactionalSaver.from_conn_string(...)`, or `with` for programs without a loop)."
    )
