"""A server that is sent effects: it takes each identity once, and sometimes says nothing of having taken it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Receiver"]

_SILENT = 25  # one in so many is taken, and answered with an error


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Who sends may be killed in the middle of it."""


class Receiver:
    """What came.

    Attributes:
        handled: what each identity was, in the order in which they were first taken.
        came: how often each identity came.
        url: where it is.
    """

    def __init__(self) -> None:
        self.handled: dict[str, dict[str, Any]] = {}
        self.came = Counter[str]()
        self.url = ""
        self._lock = threading.Lock()

    def take(self, identity: str, payload: dict[str, Any]) -> int:
        """Once each. The status of the answer."""
        with self._lock:
            self.came[identity] += 1
            self.handled.setdefault(identity, payload)
            return 500 if self.came.total() % _SILENT == 0 else 200

    @contextmanager
    def serving(self) -> Iterator[None]:
        """In threads of this process."""
        receiver = self

        class Request(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(receiver.take(self.headers["idempotency-key"], body))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        with _Server(("127.0.0.1", 0), Request) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}/"
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()
