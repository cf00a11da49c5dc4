"""The event loop that a saver lives on, and the ways to it from other loops and threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from superstep.runtime.blocking import iterate
from superstep.runtime.faults import NoActiveStep

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator

__all__ = ["HomeLoop"]

T = TypeVar("T")


class HomeLoop:
    """The loop that was running when this was made. All database work of one saver happens on it.

    Attributes:
        loop: the event loop.
        own_thread: it runs in a thread that does nothing else, so any other thread may be blocked on it.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.own_thread = False
        self._background: set[asyncio.Task[Any]] = set()

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` on this loop, from whichever loop the caller runs on."""
        if asyncio.get_running_loop() is self.loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def block(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on this loop and block the calling thread until it is done.

        Raises:
            NoActiveStep: called on the thread of this very loop, where blocking would wait for ever.
        """
        try:
            self.refuse_blocking()
        except NoActiveStep:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()  # interrupted, the work goes on

    def can_block(self) -> bool:
        """Whether a call that could be awaited may block here: it holds up no event loop that somebody counts on."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            return self.loop.is_running()
        return self.own_thread and here is not self.loop

    def iterate(self, items: AsyncGenerator[T, None], *, leave: float) -> Iterator[T]:
        """The items of a generator that runs on this loop. See `blocking.iterate`.

        Raises:
            NoActiveStep: at the first item, if called on the thread of this very loop.
        """
        self.refuse_blocking()
        yield from iterate(items, self.loop, leave=leave)

    def refuse_blocking(self) -> None:
        """Raise `NoActiveStep` if blocking here would block the event loop that has to do the work."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            return
        if here is self.loop:
            raise NoActiveStep(
                "A blocking call (step.sync, flow.invoke, or a synchronous method of the saver) was made on the event "
                "loop that would have to serve it. Use the async method here, or call from another thread."
            )

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run something in the background and keep it from being collected. Call on this loop."""
        self._keep(self.loop.create_task(work()))

    async def shielded(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, which runs to its end even if the caller is cancelled meanwhile. Call on this loop."""
        return await asyncio.shield(self._keep(self.loop.create_task(work)))

    async def settle(self) -> None:
        """Wait for everything in the background."""
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)

    def _keep(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
