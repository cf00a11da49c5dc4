"""Setting up, for programs with an event loop and without."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from superstep.checkpointer.database.loop import HomeLoop

__all__ = ["Setup"]


class Setup(Coroutine[Any, Any, list[str]]):
    """What `setup` returns: a coroutine of the names of the migrations that were applied.

    Where a thread can be blocked the work is done when this is made, and awaiting it is allowed and changes nothing.
    That is so on a thread without a running event loop, and with a saver that was opened by `with`, whose loop runs in
    a thread of its own. Elsewhere nothing happens before it is awaited.
    """

    def __init__(self, work: Coroutine[Any, Any, list[str]], home: HomeLoop) -> None:
        self._applied = home.block(work) if home.can_block() else None
        self._work = work
        self._home = home
        self._steps = self.__await__()

    def __await__(self) -> Generator[Any, Any, list[str]]:
        if self._applied is None:
            self._applied = yield from self._home.call(self._work).__await__()
        return self._applied

    def send(self, value: Any) -> Any:
        """See `Coroutine`."""
        return self._steps.send(value)

    def throw(self, kind: Any, value: Any = None, trace: TracebackType | None = None, /) -> Any:
        """See `Coroutine`."""
        return self._steps.throw(kind if value is None else value)

    def close(self) -> None:
        """See `Coroutine`."""
        self._steps.close()
        self._work.close()
