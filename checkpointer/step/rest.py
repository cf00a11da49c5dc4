"""Between the reads of a super-step: whether its transaction is kept, and until when."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from superstep.checkpointer.database.pauses import BRIEF

if TYPE_CHECKING:
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.leases import Holder

__all__ = ["Rest"]


class Rest:
    """Of one holder of a connection, which it gives back by its `release`. The holder keeps this, and not this it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connections = database.connections
        self._timer: asyncio.TimerHandle | None = None
        self._since: tuple[str, float, float] | None = None  # after which statement, when, and the CPU used by then

    def begin(self, holder: Holder, after: str, began: float, *, briefly: bool = False) -> bool:
        """The holder rests after this statement, in a transaction that began then: whether it may keep it.

        `briefly`: it is in the way of others while it does, and its commit is better off in a transaction of its own.
        """
        self._since = after, time.monotonic(), time.thread_time()
        connections = self._connections
        soon = connections.pauses.is_short(after)
        if connections.hold_idle == 0 or connections.is_pressing or (connections.wanted and not soon):
            return False
        connections.idle(holder, for_a_moment=soon)
        seconds = min(connections.hold_idle, began + connections.hold_max - time.monotonic())
        if briefly and connections.hold_idle != float("inf"):
            seconds = min(seconds, BRIEF)
        if seconds != float("inf"):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._database.home.spawn, holder.release)
        return True

    def end(self, holder: Holder) -> None:
        """It goes on. How long it rested is remembered for the next time."""
        if self._since is not None:
            self.stop()
            self._connections.busy(holder)
            after, since, used = self._since
            self._connections.pauses.note(after, time.monotonic() - since, time.thread_time() - used)
            self._since = None

    def stop(self) -> None:
        """It does not have to be reminded any more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
