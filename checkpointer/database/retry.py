"""Trying database work again: the one loop for it, with pauses that spread rivals out."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, TypeVar

from superstep.checkpointer.database.errors import DRIVER_ERRORS, is_lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Outage", "retry"]

T = TypeVar("T")

_CHANCE = random.SystemRandom()  # not the generator that programs seed
_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.25
_OUTAGE = 10.0  # seconds that a server may take to come back: a restart, a failover


class Outage:
    """How long the server of a saver has been away. All work on it shares the time that it has to come back."""

    def __init__(self) -> None:
        self._since: float | None = None

    def over(self) -> None:
        """It has answered."""
        self._since = None

    def may_end(self) -> bool:
        """A connection was lost, or none was to be had: whether the server may still come back in time."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        return now < self._since + _OUTAGE


async def retry(
    work: Callable[[], Awaitable[T]],
    failed: Callable[[Exception, int], Awaitable[None]],
    *,
    tries: int,
    outage: Outage,
) -> T:
    """Await `work` until it succeeds, with a jittered exponential pause after each failure.

    At most `tries` times, but while the server is away as often as it takes: 10 seconds from the first lost connection.

    Args:
        work: may run many times, so it must have no effect but on the database.
        failed: called with each error of the database and the number of tries left. It raises what the caller is to
            see, or returns to have `work` tried again; with none left it must raise.
        tries: at least 1.
        outage: of the server that `work` needs.
    """
    failures = 0
    while True:
        try:
            result = await work()
        except DRIVER_ERRORS as error:
            failures += 1
            away = is_lost(error) and outage.may_end()
            await failed(error, max(tries - failures, 1 if away else 0))
            if failures >= tries and not away:
                raise AssertionError("`failed` returned although no try was left") from error
        else:
            outage.over()
            return result
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures - 1, 10))
        await asyncio.sleep(_CHANCE.uniform(0, longest))
