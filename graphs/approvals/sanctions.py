"""The sanctions service: a client that speaks HTTP, and a small service for machines that have none.

A screening is made by `PUT /v1/screenings/IDENTITY`. Asking again under the same identity is the same screening: it is
made once, and answered as often as it is asked for. So a node that runs again asks for nothing new.

The bundled service is a real HTTP/1.1 server on the loopback address, in a thread of its own.
"""

from __future__ import annotations

import json
import os
import re
import threading
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx

from superstep import RuntimeFault

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

__all__ = [
    "LISTED",
    "SanctionsRejected",
    "SanctionsUnavailable",
    "lifespan",
    "sanctions_url",
    "screen_name",
    "serve",
]

LISTED = frozenset({"Karst Shipping"})  # whom the bundled service finds on a list
TIMEOUT = httpx.Timeout(5.0, connect=1.0)
_PATH = re.compile(r"/v1/screenings/[0-9a-f]{32}")
_current: ContextVar[str | None] = ContextVar("sanctions_url", default=None)


class SanctionsUnavailable(RuntimeFault):
    """The service could not be reached, was too slow, or failed. Asking again may help."""


class SanctionsRejected(RuntimeFault):
    """The service refused the question, or its answer is not a screening. Asking again does not help."""


async def screen_name(url: str, identity: str, name: str) -> bool:
    """Whether a name is clear, on no list. May be repeated: one identity is one screening.

    Raises:
        SanctionsUnavailable: No connection, no answer within 5 s, or a status of 429 or 500 and above.
        SanctionsRejected: Any other status than 200, or an answer that is not a screening.
    """
    where = f"{url.rstrip('/')}/v1/screenings/{identity}"
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT, verify=_tls()) as client:
            response = await client.put(where, json={"name": name})
    except httpx.TransportError as error:
        raise SanctionsUnavailable(
            f"The sanctions service at {url} did not answer ({type(error).__name__})."
        ) from error
    if response.status_code == 429 or response.status_code >= 500:
        raise SanctionsUnavailable(f"The sanctions service at {url} answered with status {response.status_code}.")
    if response.status_code != 200:
        raise SanctionsRejected(f"The sanctions service at {url} refused with status {response.status_code}.")
    try:
        clear = response.json()["clear"]
    except (ValueError, KeyError, TypeError) as error:
        raise SanctionsRejected(f"The answer of the sanctions service at {url} is not a screening.") from error
    if not isinstance(clear, bool):
        raise SanctionsRejected(f"The answer of the sanctions service at {url} is not a screening.")
    return clear


def sanctions_url() -> str:
    """Address of the service: of the enclosing `lifespan`, else `SANCTIONS_URL`, else a bundled one started now."""
    return _current.get() or os.environ.get("SANCTIONS_URL") or _of_last_resort()


@asynccontextmanager
async def lifespan(saver: Any = None) -> AsyncIterator[None]:
    """Keep a service available to the nodes that run inside: `SANCTIONS_URL`, else the bundled one.

    Args:
        saver: Not used; every flow's hook gets it.
    """
    del saver
    if os.environ.get("SANCTIONS_URL"):
        yield
        return
    with serve() as service:
        token = _current.set(service.url)
        try:
            yield
        finally:
            _current.reset(token)


@contextmanager
def serve() -> Iterator[Service]:
    """Run the bundled service on a free loopback port."""
    service = _start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()


class Service(ThreadingHTTPServer):
    """The bundled service.

    Attributes:
        screenings: the names that were screened, by identity.
        requests: how many were answered.
    """

    daemon_threads = True
    block_on_close = False  # a client that keeps its connection open must not hold up the end of a run
    request_queue_size = 128  # the default of 5 makes a burst of flows wait for a second's retransmission

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.screenings: dict[str, str] = {}
        self.requests = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def screen(self, identity: str, name: str) -> bool:
        """Screen a name under an identity, or repeat what was found."""
        with self._lock:
            self.requests += 1
            return self.screenings.setdefault(identity, name) not in LISTED


class _Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; together with delayed ACKs that can cost 40 ms

    def do_PUT(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not _PATH.fullmatch(self.path):
            self._send(404, {"error": "no such screening"})
            return
        try:
            name = str(json.loads(body)["name"])
        except (ValueError, KeyError, TypeError):
            self._send(400, {"error": "a screening needs a name"})
            return
        self._send(200, {"clear": self.server.screen(self.path.rsplit("/", 1)[1], name)})

    def _send(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Log nothing: stderr belongs to the flow."""


def _start() -> Service:
    service = Service()
    threading.Thread(target=service.serve_forever, args=(0.02,), name="sanctions", daemon=True).start()
    return service


@lru_cache(maxsize=1)
def _of_last_resort() -> str:
    """For graphs run without a hook. It lives as long as the process."""
    return _start().url


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    # Reading the certificate store takes tens of milliseconds, and httpx would do it for every client.
    return httpx.create_ssl_context()
