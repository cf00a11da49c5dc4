"""Refreshing in the background: soon after news, and never so often that it costs more than the work it shows."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["debounced"]

PAUSE = 10  # times as long as a refresh took: refreshing stays a small part of the work


@asynccontextmanager
async def debounced(refresh: Callable[[], Awaitable[None]]) -> AsyncIterator[Callable[[], None]]:
    """Call `refresh` soon after each request; requests that come during a refresh or its pause become one.

    A refresh that fails is forgotten: what it reads will fail where it matters too. Nothing is refreshed after the
    block has been left.

    Args:
        refresh: Called on the event loop, never twice at once.

    Yields:
        What requests a refresh. It returns at once.
    """
    requested = asyncio.Event()

    async def serve() -> None:
        while True:
            await requested.wait()
            requested.clear()
            began = time.monotonic()
            with suppress(Exception):
                await refresh()
            await asyncio.sleep(PAUSE * (time.monotonic() - began))

    task = asyncio.create_task(serve())
    try:
        yield requested.set
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
