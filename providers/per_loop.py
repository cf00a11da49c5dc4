"""Connections, which belong to an event loop: each loop has its own, and they end with it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["PerLoop"]

T = TypeVar("T")


class _Loop(Generic[T]):
    """What one event loop has, by name, with the key it was made with."""

    def __init__(self, close: Callable[[T], Awaitable[None]]) -> None:
        self.made: dict[str, tuple[str | None, T]] = {}
        # asyncio tells nobody that a loop ends, except its asynchronous generators: `asyncio.run` closes those that
        # have begun (`loop.shutdown_asyncgens`), while connections can still be closed properly. So one waits here.
        self.life = self._live(close)
        with suppress(StopIteration):
            self.life.__anext__().send(None)  # begin: what `await anext(...)` does where nothing has to be waited for

    async def _live(self, close: Callable[[T], Awaitable[None]]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            while self.made:
                _, (_, each) = self.made.popitem()
                with suppress(Exception):  # a broken connection has nothing more to tell
                    await close(each)


class PerLoop(Generic[T]):
    """Things with connections, by event loop and name. Safe to share by threads.

    They are closed when `asyncio.run` (or whoever calls `loop.shutdown_asyncgens`) ends their loop. Those of a loop
    that was closed without that are let go the next time another loop makes its first one; Python then closes their
    sockets. Weak references to loops would not do: connections hold their loop, so it would live as long as they.
    """

    def __init__(self, close: Callable[[T], Awaitable[None]]) -> None:
        self._close = close
        self._loops: dict[asyncio.AbstractEventLoop, _Loop[T]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """For how many loops something is kept."""
        return len(self._loops)

    def get(self, name: str, key: str | None, make: Callable[[], T]) -> T:
        """What the running loop has of that name, made if it has none, or made anew if `key` is another one."""
        running = asyncio.get_running_loop()
        with self._lock:
            loop = self._loops.get(running)
            if loop is None:
                for closed in [each for each in self._loops if each.is_closed()]:
                    del self._loops[closed]
                loop = self._loops[running] = _Loop(self._close)
            known = loop.made.get(name)
            if known is None or known[0] != key:
                known = loop.made[name] = (key, make())
        return known[1]

    async def aclose(self) -> None:
        """Close what the running loop has."""
        with self._lock:
            loop: _Loop[Any] | None = self._loops.pop(asyncio.get_running_loop(), None)
        if loop is not None:
            await loop.life.aclose()
