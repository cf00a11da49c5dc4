"""A job of the queue, and the ways in which its handler may end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Again", "Handler", "Job"]


@dataclass(frozen=True, slots=True)
class Job:
    """Something for a worker to do.

    Attributes:
        kind: which handler of the worker does it.
        payload: what that handler is given.
        priority: a greater one is taken first; among equals the older one.
        delay: how long it waits at least, from the transaction that puts it on.
        key: while a job of this key waits or is worked on, another one of the same key is not put.
    """

    kind: str
    payload: bytes
    priority: int = 0
    delay: timedelta | None = None
    key: str | None = None


if TYPE_CHECKING:
    Handler = Callable[[bytes, int], Awaitable[None]]


class Again(Exception):
    """Raised by a handler: the job is not done, and is to be tried again.

    Attributes:
        delay: after how long, at least.
    """

    def __init__(self, delay: timedelta = timedelta(0)) -> None:
        super().__init__(f"again in {delay}")
        self.delay = delay
