"""An event loop whose time is virtual: it jumps to the next timer when nothing is ready, so that nobody ever waits."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["Deadlock", "VirtualLoop", "run_virtual"]

T = TypeVar("T")

START = 1000.0  # an arbitrary moment: a monotonic clock does not begin at zero


class Deadlock(RuntimeError):
    """Every task waits for another one: no callback is ready and no timer is set, so nothing can ever happen again."""


class _Jump(selectors.SelectSelector):
    """Instead of waiting for the network, which nobody here uses, moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("Every task waits for another one.")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs one thread's coroutines in virtual time.

    The order of callbacks depends on nothing but the program: ready ones run in the order they became ready, timers in
    the order of their time. So a program whose randomness is seeded runs the same way every time. No sockets, threads
    or subprocesses: nothing outside can make a callback ready. For weeks, not for years: then the distance between two
    floating-point numbers exceeds the resolution that asyncio expects of a clock.
    """

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jump.now


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time.

    Raises:
        Deadlock: it can never end.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
