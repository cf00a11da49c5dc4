"""What the HTTP layer last saw for an attempt: the only witness when an SDK fails on an answer it cannot read."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Exchange", "exchange", "witness"]


@dataclass(slots=True)
class Exchange:
    """Status and headers of the last response, if there was one."""

    status: int | None = None
    headers: Mapping[str, str] | None = None


exchange: ContextVar[Exchange | None] = ContextVar("superstep_exchange", default=None)


async def witness(response: Any) -> None:
    """A response hook of an HTTP client."""
    seen = exchange.get()
    if seen is not None:
        seen.status, seen.headers = response.status_code, response.headers
