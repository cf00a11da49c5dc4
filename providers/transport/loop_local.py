"""Connections, which belong to an event loop: each loop has its own, and they end with it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["LoopLocal"]

T = TypeVar("T")


class LoopLocal(Generic[T]):
    """Things with connections, by event loop and name. Safe to share by threads.

    They are closed when `asyncio.run` (or another caller of `loop.shutdown_asyncgens`) ends their loop. Those of a loop
    that was closed without that are let go the next time another loop makes its first one; Python then closes their
    sockets. Weak references to loops would not do: connections hold their loop, so it would live as long as they.
    """

    def __init__(self, close: Callable[[T], Awaitable[None]]) -> None:
        self._close = close
        self._made: dict[asyncio.AbstractEventLoop, dict[str, tuple[str | None, T]]] = {}
        self._lives: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._lock = threading.Lock()

    def get(self, name: str, key: str | None, make: Callable[[], T]) -> T:
        """What the running loop has of that name, made if it has none, or made anew if `key` is another one."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._made:
                for closed in [each for each in self._made if each.is_closed()]:
                    del self._made[closed], self._lives[closed]
                self._made[loop], self._lives[loop] = {}, self._begun(loop)
            made = self._made[loop]
            known = made.get(name)
            if known is None or known[0] != key:
                known = made[name] = (key, make())
        return known[1]

    async def aclose(self) -> None:
        """Close what the running loop has."""
        life = self._lives.get(asyncio.get_running_loop())
        if life is not None:
            await life.aclose()

    def _begun(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        """What notices the end of the loop.

        asyncio announces it to asynchronous generators only: it closes those that have begun, while connections can
        still be closed properly. So one waits for that.
        """
        life = self._life(loop)
        with suppress(StopIteration):
            life.__anext__().send(None)  # begins it, as `await anext(life)` would: there is nothing to wait for
        return life

    async def _life(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                made = self._made.pop(loop, {})
                self._lives.pop(loop, None)
            for _, each in made.values():
                with suppress(Exception):  # a broken connection has nothing more to tell
                    await self._close(each)
