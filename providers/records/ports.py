"""What the application plugs in: this library knows no database, yet its calls are recorded and budgeted.

All hooks are asked in the context of the call, so that they can find the super-step it belongs to. A recorder finds it
when it is called, and may be awaited later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

from superstep.providers.records.call_record import CallRecord

__all__ = ["Hooks", "Amount", "SpentByScope", "hooks"]


class Amount(Protocol):
    """Tokens (in and out) and US dollars."""

    @property
    def tokens(self) -> int:
        """In and out."""
        ...

    @property
    def usd(self) -> float:
        """As far as prices are known."""
        ...


class SpentByScope(Protocol):
    """What has been spent before this call, by scope."""

    @property
    def run(self) -> Amount:
        """By the thread's current run."""
        ...

    @property
    def thread(self) -> Amount:
        """By the thread in its whole life."""
        ...

    @property
    def route(self) -> Amount:
        """By all threads on the route, within its budget's window."""
        ...

    @property
    def thread_id(self) -> str:
        """The thread that the call is made for."""
        ...


Recorder: TypeAlias = Callable[[CallRecord], Awaitable[Any]]
AskSpent: TypeAlias = Callable[[str, float | None], Awaitable[SpentByScope | None]]


class Hooks(NamedTuple):
    """The plugged-in parts.

    Attributes:
        record: keeps the record of a call whose answer does not carry it.
        spent: what was spent before, by (route, window in seconds or `None` for ever); gives `None` where no super-step
            is running.
        before_blocking: asked before a call blocks a thread with a running event loop; raises if the call may need
            that very loop, and would wait for ever.
    """

    record: Recorder | None = None
    spent: AskSpent | None = None
    before_blocking: Callable[[], None] | None = None


_hooks = [Hooks()]


def hooks(new: Hooks | None = None) -> Hooks:
    """The hooks of the process; given new ones, these from now on."""
    if new is not None:
        _hooks[0] = new
    return _hooks[0]
