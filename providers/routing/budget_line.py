"""Who waits for calls in flight to end before it knows whether a budget has room for it.

Calls stand in line by scope, in order of arrival. An end wakes the first, and whoever leaves the line wakes the next:
so one end lets as many out as fit, and asks what was spent once for each, not once for all who wait.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BudgetLine", "Place"]

Key: TypeAlias = tuple[str, str]


class BudgetLine:
    """The lines of all scopes. Safe to share by threads and event loops."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lines: dict[Key, list[Place]] = {}

    def place(self) -> Place:
        """A place for a call, in no line yet."""
        return Place(self)

    def wake(self, keys: Iterable[Key]) -> None:
        """A call of these scopes has ended: have the first in line look again."""
        with self.lock:
            firsts = [line[0] for key in keys if (line := self.lines.get(key))]
        for first in firsts:
            first.wake()


class Place:
    """One call's place. It waits in one event loop, and may be woken from any thread."""

    def __init__(self, line: BudgetLine) -> None:
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._key: Key | None = None

    def is_behind(self, key: Key) -> bool:
        """Whether others were there before."""
        with self._line.lock:
            line = self._line.lines.get(key, [])
            return bool(line) and line[0] is not self

    def join(self, key: Key) -> None:
        """Stand in this line, and in no other."""
        if key == self._key:
            return
        self.leave()
        self._key = key
        with self._line.lock:
            self._line.lines.setdefault(key, []).append(self)

    async def wait(self, latest: float) -> bool:
        """Until something has changed; false if nothing has until `latest` (loop time)."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(latest):
                await self._woken.wait()
        woken = self._woken.is_set()
        self._woken.clear()
        return woken

    def leave(self) -> None:
        """Stand in no line any more; the next one looks whether it fits as well."""
        key, self._key = self._key, None
        if key is None:
            return
        with self._line.lock:
            line = self._line.lines[key]
            line.remove(self)
            if not line:
                del self._line.lines[key]
        self._line.wake([key])

    def wake(self) -> None:
        """Have it look again."""
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # its loop has been closed around it: no call may stand behind it for ever
            self.leave()
