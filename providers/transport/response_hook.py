"""An attempt's request and last response: all that is known when an SDK fails on an answer it cannot read."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["HOOKS", "LastResponse", "note_response", "noted_response"]


@dataclass(slots=True)
class LastResponse:
    """Status and headers of an attempt's last response; `None` until there was one.

    Attributes:
        sent: whether its request went out whole; `None` if its client does not tell.
    """

    status: int | None = None
    headers: Mapping[str, str] | None = None
    sent: bool | None = None


_last_response: ContextVar[LastResponse | None] = ContextVar("superstep_last_response", default=None)


@contextmanager
def noted_response() -> Iterator[LastResponse]:
    """Note the last response to what is sent in this block, by clients that have `note_response` as a hook."""
    response = LastResponse()
    token = _last_response.set(response)
    try:
        yield response
    finally:
        _last_response.reset(token)


async def note_response(response: Any) -> None:
    """A response hook for an HTTP client: notes the response for the attempt in whose context the request was sent."""
    noted = _last_response.get()
    if noted is not None:
        noted.status, noted.headers = response.status_code, response.headers


async def note_request(request: Any) -> None:
    """A request hook for an HTTP client: notes when a request has gone out."""
    noted = _last_response.get()
    if noted is None:
        return
    noted.sent = False

    async def trace(event: str, _: Any) -> None:
        if event.endswith("send_request_body.complete"):
            noted.sent = True

    request.extensions["trace"] = trace


HOOKS: Mapping[str, list[Any]] = {"request": [note_request], "response": [note_response]}
