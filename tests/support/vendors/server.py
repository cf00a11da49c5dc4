"""The server: HTTP/1.1 on loopback, in a thread with an event loop of its own, doing with each request as scripted."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from tests.support.vendors import anthropic, openai
from tests.support.vendors.acts import Act, answer, vectors
from tests.support.vendors.request import parse

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Callable, Coroutine

    from tests.support.vendors.request import Request

    Reply: TypeAlias = Callable[[Request], Act]

__all__ = ["Vendor"]

_HALF_AN_EVENT = b'event: content_block_delta\ndata: {"type": "content_bl\n\n'


def _default(request: Request) -> Act:
    return vectors() if request.api == "embeddings" else answer("pong")


class Vendor:
    """A vendor of models on loopback: `with Vendor() as vendor: ...`. Speaks every protocol of this package at once.

    Its methods may be called from any thread. A connection serves one request, so that no client's idle connection
    outlives the event loop of its test, unless `keep_alive` is set: then connections stay open, as with the real ones.

    Attributes:
        requests: everything that was asked, in order of arrival.
        port: where it listens; the same again after `revive`.
    """

    def __init__(self, reply: Reply | Act = _default, *, port: int = 0, keep_alive: bool = False) -> None:
        """Answers with `reply` whenever the script is empty."""
        self.requests: list[Request] = []
        self.port = port
        self._keep_alive = keep_alive
        self._reply = reply
        self._script: deque[Reply | Act] = deque()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vendor", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()
        self._numbers = itertools.count(1)

    @property
    def url(self) -> str:
        """The address without a path, as Anthropic's SDK wants it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """The address as OpenAI's SDK wants it."""
        return f"{self.url}/v1"

    @property
    def count(self) -> int:
        """How many requests there were."""
        return len(self.requests)

    def script(self, *acts: Reply | Act) -> Self:
        """Do this with the next requests, in order of arrival."""
        self._script.extend(acts)
        return self

    def always(self, reply: Reply | Act) -> Self:
        """Do this with every request that the script has nothing for."""
        self._reply = reply
        return self

    def kill(self) -> None:
        """Vanish, in the middle of whatever is being answered: connections are reset, new ones refused."""
        self._do(self._close())

    def revive(self) -> None:
        """Listen again, on the same port."""
        self._do(self._listen())

    async def until(self, condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
        """Wait until something is so, for example `lambda: vendor.requests[-1].state == "stalled"`."""
        latest = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > latest:
                raise TimeoutError(f"It did not come to that. Requests: {[each.state for each in self.requests]}")
            await asyncio.sleep(0.002)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        number = next(self._numbers)
        try:
            ahead = await reader.read(1)
            while ahead:
                head = ahead + await reader.readuntil(b"\r\n\r\n")
                length = int(parse(head, b"", number).headers.get("content-length", 0))
                request = parse(head, await reader.readexactly(length), number)
                self.requests.append(request)
                ahead = await self._watched(reader, writer, request)
            writer.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    async def _watched(self, reader: StreamReader, writer: StreamWriter, request: Request) -> bytes:
        """Answer, and see when the client hangs up meanwhile. Returns the next request's first byte."""
        act = self._script.popleft() if self._script else self._reply
        answering = asyncio.create_task(self._answer(writer, request, act if isinstance(act, Act) else act(request)))
        watching = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                request.state = "gone"
                return b""
            if not answering.result():
                request.state = "broken"
                return b""
            request.state = "answered"
            return await watching if self._keep_alive else b""
        except ConnectionError:
            request.state = "gone"
            return b""
        except asyncio.CancelledError:
            request.state = request.state if request.state == "answered" else "broken"
            raise
        finally:
            answering.cancel()
            watching.cancel()
            await asyncio.gather(answering, watching, return_exceptions=True)

    async def _answer(self, writer: StreamWriter, request: Request, act: Act) -> bool:
        """Returns whether the connection is still good."""
        await asyncio.sleep(act.first_byte)
        if act.fault == "hang up":
            return False
        good = act.raw is None and act.status < 400 and request.api in ("openai", "anthropic")
        if good and request.stream:
            return await self._stream(writer, request, act)
        return await self._whole(writer, request, act)

    async def _whole(self, writer: StreamWriter, request: Request, act: Act) -> bool:
        number, payload = _document(request, act)
        half = len(payload) // 2
        if act.fault in ("garble", "end"):
            payload = payload[:half]
        headers = {"content-type": act.content_type, "content-length": str(len(payload)), **act.headers}
        self._head(writer, number, headers)
        if act.fault in ("cut", "stall"):
            writer.write(payload[:half])
            await writer.drain()
            if act.fault == "cut":
                return False
            await _stalled(request, act)
            payload = payload[half:]
        writer.write(payload)
        await writer.drain()
        return True

    async def _stream(self, writer: StreamWriter, request: Request, act: Act) -> bool:
        wire = openai if request.api == "openai" else anthropic
        events = list(wire.events(act, request))
        events = events[: len(events) - act.without]
        whole = act.fault in (None, "linger", "drop")
        breaking = None if whole else _position([token for token, _ in events], act.after)
        self._head(writer, 200, {"content-type": "text/event-stream", "transfer-encoding": "chunked", **act.headers})
        wait = act.first_token
        for at, (token, event) in enumerate(events):
            if at == breaking:
                await writer.drain()
                if act.fault == "cut":
                    return False
                if act.fault != "stall":
                    last = {"garble": _HALF_AN_EVENT, "error": wire.error_event(act, _message(request, act))}
                    _chunk(writer, last.get(str(act.fault), b""))
                    break
                await _stalled(request, act)
            if token:
                await asyncio.sleep(wait)
                wait = act.token
            _chunk(writer, event)
        if act.fault in ("linger", "drop"):
            await writer.drain()
            if act.fault == "drop":
                return False
            await _stalled(request, act)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    def _head(self, writer: StreamWriter, number: int, headers: dict[str, str]) -> None:
        headers = {"connection": "keep-alive" if self._keep_alive else "close", **headers}
        lines = [f"HTTP/1.1 {number} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))


def _position(tokens: list[bool], after: int) -> int:
    """Where in the events so many tokens have been sent: before the next one, or after the last."""
    places = [at for at, token in enumerate(tokens) if token]
    return places[after] if after < len(places) else (places[-1] + 1 if places else len(tokens) - 1)


def _document(request: Request, act: Act) -> tuple[int, bytes]:
    if act.raw is not None:
        return act.status, act.raw
    wire = anthropic if request.api == "anthropic" else openai
    if request.api == "unknown":
        act = Act(status=404, message=f"no such path: {request.path}")
    number = 500 if act.fault == "error" else act.status
    if number >= 400:
        return number, json.dumps(wire.error(act, _message(request, act))).encode()
    found = openai.embeddings(act, request) if request.api == "embeddings" else wire.body(act, request)
    return number, json.dumps(found).encode()


def _message(request: Request, act: Act) -> str:
    return act.message.replace("{key}", request.key or "")


def _chunk(writer: StreamWriter, data: bytes) -> None:
    if data:
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def _stalled(request: Request, act: Act) -> None:
    request.state = "stalled"
    if act.until is None:
        await asyncio.Event().wait()
    else:
        while not act.until.is_set():  # noqa: ASYNC110 - it is set from another thread
            await asyncio.sleep(0.002)
    request.state = "arrived"
