"""The measures over HTTP, for Prometheus to scrape: `GET /metrics`.

What is served is of a window of time that ends now. Measuring it takes a few queries, so one answer serves all scrapes
of the next seconds, and scrapes at the same moment wait for one measurement. Nothing is served but numbers and names
(see `prometheus`); who may see them is for the address that it listens on to decide: this machine only by default.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from superstep.runtime.exposition.prometheus import exposition
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import StoredThreads

__all__ = ["serving_metrics"]

_log = logging.getLogger(__name__)
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_PATIENCE = 10.0  # seconds for a request to come in
_MOST_BYTES = 16_384  # of a request's head
_FRESH = 5.0  # seconds that an answer is given again
_STEPS = 5_000  # super-steps whose coherence is measured: in this process, which has other things to do


@asynccontextmanager
async def serving_metrics(
    threads: StoredThreads,
    port: int,
    *,
    host: str = "127.0.0.1",
    since: timedelta = timedelta(minutes=15),
    graph: str | None = None,
    most_steps: int = _STEPS,
) -> AsyncIterator[int]:
    """Serve the measures of a saver's database meanwhile.

    Args:
        threads: a saver, or what `StoredThreads.opened` gives. Stays open; call on its event loop.
        port: to listen on; 0 for any that is free.
        host: the address to listen on.
        since: length of the window.
        graph: only threads of this graph.
        most_steps: super-steps whose coherence is measured: the latest.

    Yields:
        The port.

    Raises:
        ConfigError: the port cannot be listened on.
    """
    measures = _Measures(threads, since, graph, most_steps)
    try:
        server = await asyncio.start_server(measures.serve, host, port, limit=_MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"Metrics cannot be served on {host}, port {port}: {error.strerror or error}.") from None
    async with server:
        yield int(server.sockets[0].getsockname()[1])


class _Measures:
    """What is served."""

    def __init__(self, threads: StoredThreads, since: timedelta, graph: str | None, most_steps: int) -> None:
        self._threads = threads
        self._since = since
        self._graph = graph
        self._most_steps = most_steps
        self._measuring = asyncio.Lock()
        self._text = ""
        self._until = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            with suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_PATIENCE):
                    head = await reader.readuntil(b"\r\n\r\n")
                method, target, *_ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                status, body = await self._answer(method, target.partition("?")[0])
                writer.write(_response(status, body, whole=method != "HEAD"))
                await writer.drain()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, method: str, path: str) -> tuple[HTTPStatus, str]:
        if path != "/metrics":
            return HTTPStatus.NOT_FOUND, "Metrics are at /metrics.\n"
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, "Only GET.\n"
        try:
            return HTTPStatus.OK, await self._measured()
        except Exception as error:  # noqa: BLE001 - the next scrape may find the database back
            _log.warning("Metrics could not be served: %s", type(error).__name__)
            return HTTPStatus.SERVICE_UNAVAILABLE, f"{type(error).__name__}\n"

    async def _measured(self) -> str:
        async with self._measuring:
            if time.monotonic() >= self._until:
                found = await self._threads.ametrics(
                    since=self._since, graph=self._graph, most_steps=self._most_steps, most_rows=None
                )
                self._text, self._until = exposition(found), time.monotonic() + _FRESH
            return self._text


def _response(status: HTTPStatus, body: str, *, whole: bool) -> bytes:
    sent = body.encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {_TEXT}\r\nContent-Length: {len(sent)}\r\n"
        f"Connection: close\r\n\r\n"
    )
    return head.encode() + (sent if whole else b"")
