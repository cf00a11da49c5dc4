"""Looking again, in the background, whenever there may be something new."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["following"]

REST = 10  # times as long as a look takes: looking stays a small part of the work


@asynccontextmanager
async def following(look: Callable[[], Awaitable[None]]) -> AsyncIterator[Callable[[], None]]:
    """Call `look` soon after each nudge; nudges that come while it looks or rests become one.

    A look that fails is forgotten: what it looks at will say so itself.

    Args:
        look: What to do.

    Yields:
        The nudge.
    """
    news = asyncio.Event()

    async def follow() -> None:
        while True:
            await news.wait()
            news.clear()
            began = time.monotonic()
            with suppress(Exception):
                await look()
            await asyncio.sleep(REST * (time.monotonic() - began))

    task = asyncio.create_task(follow())
    try:
        yield news.set
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
