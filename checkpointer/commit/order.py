"""One commit at a time, in a process whose commits keep meeting.

Postgres finds conflicts by pages where it has no better knowledge, so flows on neighbouring rows abort each other for
nothing: each pays with a repeated commit. One after the other they do not meet. But while they do not meet anyway, side
by side they are faster. So commits go side by side until one is aborted, and for a second after that one at a time.

Before it waits for its turn, a super-step has given its transaction back: it repeats its reads after the commits
before it, which is what makes the two serial. No connection is held while waiting. Whoever holds the turn waits for its
own snapshot, for connections and for the server, never for somebody who waits for the turn. One whose server is slow
(it waits for a row that another program has locked) does not hold up the others for longer than `_PATIENCE`: they go on
without a turn, which is only thrift.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["CommitOrder", "Turn"]

_CONTENDED = 1.0  # seconds after a commit was aborted
_PATIENCE = 1.0  # seconds that one waits for the others


class Turn:
    """Of one commit, which may have it or not."""

    def __init__(self, order: CommitOrder) -> None:
        self._order = order
        self._has = False

    async def aborted(self) -> None:
        """Another transaction got in the way: from now on one at a time. With no connection in hand."""
        self._order.until = time.monotonic() + _CONTENDED
        await self.take()

    async def take(self) -> None:
        """Wait for the commits before this one. With no connection in hand."""
        if not self._has:
            self._has = await self._order.acquire()

    def give_back(self) -> None:
        """Let the next one go on."""
        if self._has:
            self._has = False
            self._order.release()


class CommitOrder:
    """The commits of one saver's super-steps. Lives on its event loop.

    Attributes:
        until: when commits go side by side again.
    """

    def __init__(self) -> None:
        self.until = 0.0
        self._lock = asyncio.Lock()  # first come, first served
        self._moved = 0.0

    @property
    def is_contended(self) -> bool:
        """Whether a commit was aborted just now."""
        return time.monotonic() < self.until

    async def acquire(self) -> bool:
        """Wait until the commits before this one are done; false if the one that is under way takes too long."""
        if not self._lock.locked():
            await self._lock.acquire()
            self._moved = time.monotonic()
            return True
        waiting = asyncio.ensure_future(self._lock.acquire())
        try:
            while (left := self._moved + _PATIENCE - time.monotonic()) > 0:
                if (await asyncio.wait({waiting}, timeout=left))[0]:
                    self._moved = time.monotonic()
                    return True
        except BaseException:
            self._forget(waiting)
            raise
        return self._forget(waiting)

    def _forget(self, waiting: asyncio.Task[Any]) -> bool:
        """False; what came at the last moment is given back."""
        if not waiting.cancel() and not waiting.cancelled() and waiting.exception() is None:
            self.release()
        return False

    def release(self) -> None:
        """Let the next one go on."""
        self._moved = time.monotonic()
        self._lock.release()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Around a commit, its repetitions included."""
        turn = Turn(self)
        try:
            yield turn
        finally:
            turn.give_back()
