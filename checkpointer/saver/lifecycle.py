"""Opening and closing a saver with a pool of its own, with or without an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from superstep.checkpointer.database.errors import DRIVER_ERRORS
from superstep.checkpointer.database.pool import open_pool
from superstep.runtime.blocking import wait_for, wait_from_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    import asyncpg

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.server import Server
    from superstep.checkpointer.embedded import EmbeddedServer

__all__ = ["Lifetime"]


class _Opened(Protocol):
    database: Database

    async def aclose(self) -> None: ...


S = TypeVar("S", bound=_Opened)

_CLOSE_SECONDS = 15.0  # for connections that somebody still uses; then they are cut


class Lifetime(Generic[S]):
    """`async with` gives the saver on the running loop. `with` starts a loop in a thread of its own and gives it there.

    The second form is for programs without an event loop: `setup`, the saver's synchronous methods, and `graph.invoke`,
    then work from any thread.

    Leaving waits for work under way, but not for ever. In a fork of the process it does nothing: what there is to close
    is the parent's.
    """

    def __init__(
        self,
        build: Callable[[asyncpg.Pool[asyncpg.Record], Server], Awaitable[S]],
        *,
        url: str | None,
        pool_min: int,
        pool_max: int,
    ) -> None:
        self._build = build
        self._url = url
        self._sizes = (pool_min, pool_max)
        self._server: EmbeddedServer | None = None
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._saver: S | None = None
        self._opened: tuple[int, asyncio.AbstractEventLoop] | None = None  # the process and the loop it is open in
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> S:
        self._opened = (os.getpid(), asyncio.get_running_loop())
        url = self._url
        if url is None:
            from superstep.checkpointer.embedded import EmbeddedServer

            self._server = await asyncio.to_thread(EmbeddedServer.acquire)
            url = self._server.url
        try:
            self._pool, server = await open_pool(url, min_size=self._sizes[0], max_size=self._sizes[1])
            self._saver = await self._build(self._pool, server)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self._saver

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is None or self._opened[0] != os.getpid():
            return
        loop, saver, pool = self._opened[1], self._saver, self._pool
        self._opened = self._saver = self._pool = None
        try:
            if loop is asyncio.get_running_loop():
                await _close(saver, pool)
            else:
                await wait_from_loop(_close(saver, pool), loop)
        finally:
            if self._server is not None:
                self._server.close()
                self._server = None

    def __enter__(self) -> S:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="superstep-saver", daemon=True)
        self._thread.start()
        try:
            saver = wait_for(self.__aenter__(), self._loop)
        except BaseException:
            self._stop_loop()
            raise
        saver.database.home.own_thread = True
        return saver

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._opened is not None and self._opened[0] == os.getpid():
            try:
                wait_for(self.__aexit__(None, None, None), self._loop)
            finally:
                self._stop_loop()

    def _stop_loop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_SECONDS)
            if not self._thread.is_alive():  # else code on it does not await: nothing ends that
                self._loop.close()
            self._loop = self._thread = None


async def _close(saver: _Opened | None, pool: asyncpg.Pool[asyncpg.Record] | None) -> None:
    try:
        if saver is not None:
            await saver.aclose()
    finally:
        if pool is not None:
            with suppress(TimeoutError, *DRIVER_ERRORS):  # the pool cuts what is left of its connections then
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await pool.close()
