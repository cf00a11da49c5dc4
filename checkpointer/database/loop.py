"""The event loop that a saver lives on, and the ways to it from other loops and threads."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, TypeVar

from superstep.runtime.blocking import iterate, wait_for, wait_from_loop
from superstep.runtime.faults import LoopUnavailable, NoActiveStep

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator

__all__ = ["HomeLoop"]

T = TypeVar("T")


class _Here:
    """Which process this is. Asked for every time anything is done, so it is known and not asked of the system."""

    def __init__(self) -> None:
        self.process = os.getpid()

    def moved(self) -> None:
        """A fork begins its life."""
        self.process = os.getpid()


_here = _Here()
os.register_at_fork(after_in_child=_here.moved)


class HomeLoop:
    """The loop that was running when this was made. All database work of one saver happens on it.

    A forked process has neither the loop's thread nor connections of its own: everything here refuses to work there.

    Attributes:
        loop: the event loop.
        own_thread: it runs in a thread that does nothing else, so any other thread may be blocked on it.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.own_thread = False
        self._process = _here.process
        self._background: set[asyncio.Task[Any]] = set()

    def call(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """What to await, at once, to have `work` done on this loop, from whichever loop the caller runs on.

        On this loop that is `work` itself.

        Raises:
            LoopUnavailable: this loop is closed, stopped or stuck, or stayed in a parent process.
        """
        if self._process != _here.process:
            self._refuse_fork(work)
        if asyncio.get_running_loop() is self.loop:
            return work
        return wait_from_loop(work, self.loop)

    def finishing(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """As `call`, for what must be done to its end even if whoever awaits it is cancelled, again and again.

        A task under `anyio` (a request of Starlette whose client has hung up) is cancelled anew at each thing that it
        awaits, those of its `finally` included.

        Raises:
            LoopUnavailable: see `call`.
        """
        if self._process != _here.process:
            self._refuse_fork(work)
        if asyncio.get_running_loop() is self.loop:
            return self.shielded(work)
        return wait_from_loop(work, self.loop, cancels=False)

    def block(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on this loop and block the calling thread until it is done.

        Raises:
            NoActiveStep: called on the thread of this very loop, where blocking would wait for ever.
            LoopUnavailable: see `call`.
        """
        self._refuse_fork(work)
        try:
            self.refuse_blocking()
        except NoActiveStep:
            work.close()
            raise
        return wait_for(work, self.loop, cancels=False)

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
            LoopUnavailable: see `call`.
        """
        self._refuse_fork()
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

    @property
    def is_forked(self) -> bool:
        """Whether this process is a fork of the one that the loop runs in."""
        return self._process != _here.process

    def refuse_elsewhere(self, what: str) -> None:
        """Raise `LoopUnavailable` if this is not the loop that runs here: for what cannot be done from another one."""
        self._refuse_fork()
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self.loop:
            raise LoopUnavailable(
                f"{what} belongs to the event loop that the saver was opened on, and was used on another one. Open a "
                f"saver there too (`async with TransactionalSaver.from_conn_string(...)`)."
            )

    def _refuse_fork(self, work: Coroutine[Any, Any, Any] | None = None) -> None:
        if self.is_forked:
            if work is not None:
                work.close()
            raise LoopUnavailable(
                f"The saver was opened by process {self._process}, and this is a fork of it: what it works with stayed "
                f"there. Open a saver in each worker process, after the fork (such as gunicorn's post_fork, or "
                f"Celery's worker_process_init)."
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
