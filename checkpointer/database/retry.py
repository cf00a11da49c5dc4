"""Trying database work again: the one loop for it, with pauses that spread rivals out."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

from superstep.checkpointer.database.errors import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["retry"]

T = TypeVar("T")

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.25


async def retry(
    work: Callable[[], Awaitable[T]], failed: Callable[[Exception, int], Awaitable[None]], *, tries: int
) -> T:
    """Await `work` until it succeeds, at most `tries` times, with a jittered exponential pause after each failure.

    Args:
        work: may run many times, so it must have no effect but on the database.
        failed: called with each error of the database and the number of tries left. It raises what the caller is to
            see, or returns to have `work` tried again; with none left it must raise.
        tries: at least 1.
    """
    for attempt in range(tries):
        try:
            return await work()
        except DRIVER_ERRORS as error:
            await failed(error, tries - attempt - 1)
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - spreading retries is not cryptography
    raise AssertionError("`failed` returned although no try was left")
