"""Trying database work again: the one loop for it, with pauses that spread rivals out."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import TYPE_CHECKING, TypeVar

from superstep.checkpointer.database.errors import DRIVER_ERRORS, is_lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["retry"]

T = TypeVar("T")

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.25
_OUTAGE = 10.0  # seconds that a server may take to come back: a restart, a failover


async def retry(
    work: Callable[[], Awaitable[T]], failed: Callable[[Exception, int], Awaitable[None]], *, tries: int
) -> T:
    """Await `work` until it succeeds, with a jittered exponential pause after each failure.

    At most `tries` times, but while the server is away as often as it takes: 10 seconds from the first lost connection.

    Args:
        work: may run many times, so it must have no effect but on the database.
        failed: called with each error of the database and the number of tries left. It raises what the caller is to
            see, or returns to have `work` tried again; with none left it must raise.
        tries: at least 1.
    """
    failures, back_by = 0, math.inf
    while True:
        try:
            return await work()
        except DRIVER_ERRORS as error:
            failures += 1
            if is_lost(error):
                back_by = min(back_by, time.monotonic() + _OUTAGE)
            away = is_lost(error) and time.monotonic() < back_by
            await failed(error, max(tries - failures, 1 if away else 0))
            if failures >= tries and not away:
                raise AssertionError("`failed` returned although no try was left") from error
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures - 1, 10))
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - spreading retries is not cryptography
