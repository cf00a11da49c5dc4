"""Something between client and server that stops forwarding without closing, as firewalls and NATs do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from superstep.checkpointer.database.url import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class TcpProxy:
    """A proxy on a port of its own.

    Attributes:
        url: the same database, through it.
        connections: how many have been made.
        refuses: new connections are closed at once.
    """

    def __init__(self, server_url: str) -> None:
        self.url = ""
        self.connections = 0
        self.refuses = False
        self._address = parse(server_url)
        self._path = urlsplit(server_url).path
        self._open: list[asyncio.Event] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent = False

    def drop(self) -> None:
        """From now on nothing more gets through on the connections that are open now. New ones work."""
        for forwards in self._open:
            forwards.clear()
        self._open.clear()

    def cut(self) -> None:
        """Close all connections. The server learns of it when it has done what it is doing."""
        for task in self._tasks:
            task.cancel()
        self._open.clear()

    def fall_silent(self) -> None:
        """As `drop`, and nothing gets through on new ones either."""
        self._silent = True
        self.drop()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuses:
            writer.close()
            return
        (host, port), *_ = self._address.hosts
        far = (
            asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port or 5432}")
            if host.startswith("/")
            else asyncio.open_connection(host, port or 5432)
        )
        far_reader, far_writer = await far
        forwards = asyncio.Event()
        if not self._silent:
            forwards.set()
            self._open.append(forwards)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(_pipe(source, sink, forwards))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TcpProxy]:
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            self.url = f"postgresql://{self._address.user or 'postgres'}@127.0.0.1:{port}{self._path}"
            try:
                yield self
            finally:
                for task in list(self._tasks):
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter, forwards: asyncio.Event) -> None:
    try:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                await forwards.wait()
                sink.write(data)
                await sink.drain()
            await forwards.wait()
    finally:
        sink.close()
