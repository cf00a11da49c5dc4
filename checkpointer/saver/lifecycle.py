"""Opening and closing a saver with a pool of its own, with or without an event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from superstep.checkpointer.database.pool import open_pool
from superstep.checkpointer.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    import asyncpg

    from superstep.checkpointer.database.database import Database

__all__ = ["Lifetime"]


class _Opened(Protocol):
    database: Database

    async def aclose(self) -> None: ...


S = TypeVar("S", bound=_Opened)


class Lifetime(Generic[S]):
    """`async with` gives the saver on the running loop. `with` starts a loop in a thread of its own and gives it there.

    The second form is for programs without an event loop: `setup`, the saver's synchronous methods, and `graph.invoke`,
    then work from any thread.
    """

    def __init__(
        self,
        build: Callable[[asyncpg.Pool[asyncpg.Record]], Awaitable[S]],
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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> S:
        url = self._url
        if url is None:
            self._server = await asyncio.to_thread(EmbeddedServer.acquire)
            url = self._server.url
        try:
            self._pool = await open_pool(url, min_size=self._sizes[0], max_size=self._sizes[1])
            self._saver = await self._build(self._pool)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self._saver

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._saver is not None:
                await self._saver.aclose()
            if self._pool is not None:
                await self._pool.close()
        finally:
            self._saver = self._pool = None
            if self._server is not None:
                self._server.close()
                self._server = None

    def __enter__(self) -> S:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="superstep-saver", daemon=True)
        self._thread.start()
        try:
            saver = asyncio.run_coroutine_threadsafe(self.__aenter__(), self._loop).result()
        except BaseException:
            self._stop_loop()
            raise
        saver.database.home.own_thread = True
        return saver

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None:
            try:
                asyncio.run_coroutine_threadsafe(self.__aexit__(None, None, None), self._loop).result()
            finally:
                self._stop_loop()

    def _stop_loop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None
