"""Calls that are given up when their answer has become useless, as the cache of the call finds out.

A cache may offer `in_flight(work)`: an asynchronous context around a call that it had no answer for. It cancels `work`
when the answer is of no use any more, and yields a function that raises the reason. LangChain turns the cancellation of
a call into an `AttributeError`; the reason passes through it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    T = TypeVar("T")

__all__ = ["StopsCalls", "chunks_unless_stopped", "unless_stopped"]


class StopsCalls(Protocol):
    """See the module."""

    def in_flight(self, work: asyncio.Task[Any] | None = None) -> AbstractAsyncContextManager[Callable[[], None]]:
        """Around a call."""


async def unless_stopped(cache: StopsCalls, work: Coroutine[Any, Any, T]) -> T:
    """The result of the call, which is made in a task of its own."""
    task = asyncio.ensure_future(work)
    try:
        async with cache.in_flight(task) as check:
            try:
                return await task
            except asyncio.CancelledError:
                check()
                raise
    finally:
        task.cancel()


async def chunks_unless_stopped(cache: StopsCalls, chunks: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The pieces of the answer, as long as it is of use."""
    async with aclosing(chunks), cache.in_flight() as check:
        async for chunk in chunks:
            check()
            yield chunk
