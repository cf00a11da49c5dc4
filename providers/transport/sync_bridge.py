"""An event loop in a thread of its own, for callers that cannot await.

Synchronous model calls do not get a second implementation: they run the asynchronous one here and wait. The caller's
context variables come along, so whatever depends on the running node (records, budgets) works the same.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from superstep.providers.records.ports import hooks
from superstep.runtime import blocking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator

__all__ = ["iterate", "wait_for"]

T = TypeVar("T")

_lock = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []
_parents: list[asyncio.AbstractEventLoop] = []


def _forget() -> None:
    """In a forked child: its parent's loop has no thread here, and another thread may have held the lock.

    The loop is kept all the same: to close it would be to close what the parent shares with it.
    """
    global _lock
    _lock = threading.Lock()
    _parents.extend(_loops)
    _loops.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        if not _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="model-calls", daemon=True).start()
            _loops.append(loop)
        return _loops[0]


def _check() -> None:
    check = hooks().before_blocking
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return  # no loop is blocked
    if check is not None:
        check()


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the background loop and block this thread until it is done; interrupted, cancel it.

    Raises:
        NoActiveStep: blocking here would block an event loop that `work` needs.
    """
    try:
        _check()
    except BaseException:
        work.close()
        raise
    return blocking.wait_for(work, _loop())


def iterate(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """The items of an asynchronous generator, which runs on the background loop; left early, it is closed.

    Raises:
        NoActiveStep: blocking here would block an event loop that the generator needs.
    """
    _check()
    yield from blocking.iterate(items, _loop())
