"""The credit bureau: a client that speaks HTTP, and a small bureau service for machines that have none.

The bundled service is a real HTTP/1.1 server on the loopback address. It runs in a thread of its own, so that it serves
any event loop, and none: a graph used as plain LangGraph has no hook that could start and stop it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import httpx

from superstep import RuntimeFault

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

    from superstep.graphs.underwriting.state import Bureau

__all__ = ["BureauRejected", "BureauUnavailable", "bureau_url", "fetch_report", "lifespan", "report_for", "serve"]

TIMEOUT = httpx.Timeout(5.0, connect=1.0)
_PATH = re.compile(r"/v1/reports/([A-Z0-9-]{4,32})")
_current: ContextVar[str | None] = ContextVar("bureau_url", default=None)


class BureauUnavailable(RuntimeFault):
    """The bureau could not be reached, was too slow, or failed. Asking again may help."""


class BureauRejected(RuntimeFault):
    """The bureau refused the question, or its answer is not a report. Asking again does not help."""


async def fetch_report(url: str, national_id: str) -> Bureau:
    """Ask the bureau for one report. May be repeated: asking changes nothing.

    Raises:
        BureauUnavailable: No connection, no answer within 5 s, or a status of 429 or 500 and above.
        BureauRejected: Any other status than 200, or an answer that is not a report.
    """
    where = f"{url.rstrip('/')}/v1/reports/{national_id}"
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT, verify=_tls()) as client:
            response = await client.get(where)
    except httpx.TransportError as error:
        raise BureauUnavailable(f"The credit bureau at {url} did not answer ({type(error).__name__}).") from error
    if response.status_code == 429 or response.status_code >= 500:
        raise BureauUnavailable(f"The credit bureau at {url} answered with status {response.status_code}.")
    if response.status_code != 200:
        raise BureauRejected(f"The credit bureau at {url} refused the request with status {response.status_code}.")
    try:
        report = response.json()
        return {"score": int(report["score"]), "defaults": int(report["defaults"])}
    except (ValueError, KeyError, TypeError) as error:
        raise BureauRejected(f"The answer of the credit bureau at {url} is not a report.") from error


def bureau_url() -> str:
    """Address of the bureau: of the enclosing `lifespan`, else `BUREAU_URL`, else a bundled one started now."""
    return _current.get() or os.environ.get("BUREAU_URL") or _shared_service()


@asynccontextmanager
async def lifespan(saver: Any = None, *, latency: float = 0.0) -> AsyncIterator[None]:
    """Keep a bureau available to the nodes that run inside.

    With `BUREAU_URL` set that bureau is used, else the bundled one is started and stopped again.

    Args:
        saver: Not used; every flow's hook gets it.
        latency: Seconds the bundled bureau takes to answer.
    """
    del saver
    if os.environ.get("BUREAU_URL"):
        yield
        return
    with serve(latency=latency) as url:
        token = _current.set(url)
        try:
            yield
        finally:
            _current.reset(token)


@contextmanager
def serve(*, latency: float = 0.0) -> Iterator[str]:
    """Run the bundled bureau on a free loopback port and give its address."""
    server = _start(latency)
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def report_for(national_id: str) -> Bureau:
    """The bundled bureau's report: a pure function of the identifier. Scores go from 480 to 849."""
    digest = hashlib.sha256(national_id.encode()).digest()
    score = 480 + int.from_bytes(digest[:4], "big") % 370
    return {"score": score, "defaults": 2 if score < 520 else int(score < 600 and digest[4] % 3 == 0)}


class _Service(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection open must not hold up the end of a run
    request_queue_size = 128  # the default of 5 makes a burst of flows wait for a second's retransmission


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; together with delayed ACKs that can cost 40 ms
    latency: ClassVar[float] = 0.0

    def do_GET(self) -> None:
        """Answer one request."""
        found = _PATH.fullmatch(self.path)
        time.sleep(self.latency)
        if found:
            self._send(200, report_for(found[1]))
        else:
            self._send(404, {"error": "no report of that name"})

    def _send(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Log nothing: stderr belongs to the flow."""


def _start(latency: float) -> _Service:
    handler = type("Handler", (_Handler,), {"latency": latency})
    server = _Service(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), name="bureau", daemon=True).start()
    return server


@lru_cache(maxsize=1)
def _shared_service() -> str:
    """The bureau of last resort, for graphs run without a hook. It lives as long as the process."""
    return f"http://127.0.0.1:{_start(0.0).server_port}"


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    # Reading the certificate store takes tens of milliseconds, and httpx would do it for every client.
    return httpx.create_ssl_context()
