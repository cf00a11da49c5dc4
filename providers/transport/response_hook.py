"""The last HTTP response of an attempt: all that is known when an SDK fails on an answer it cannot read."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LastResponse", "last_response", "note_response"]


@dataclass(slots=True)
class LastResponse:
    """Status and headers of an attempt's last response; `None` until there was one. Filled by `note_response`."""

    status: int | None = None
    headers: Mapping[str, str] | None = None


last_response: ContextVar[LastResponse | None] = ContextVar("superstep_last_response", default=None)


async def note_response(response: Any) -> None:
    """A response hook for an HTTP client: notes the response for the attempt in whose context the request was sent."""
    noted = last_response.get()
    if noted is not None:
        noted.status, noted.headers = response.status_code, response.headers
