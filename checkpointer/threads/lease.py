"""Which run of this process has a thread."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from superstep.checkpointer.threads.ownership import stale
from superstep.runtime.faults import ThreadBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Lease", "Leases"]


class Lease:
    """One run's hold on its thread.

    Attributes:
        thread_id: the thread.
        key: identifies the run's latest attempt, see `keys.run_key`; `None` before the first, and once it is over.
        taken_from: the run that was left, or cut off, and whose thread this one has taken over.
        stopping: a later call wants the thread: the run is to end after its super-step.
        on_claim: called on the saver's loop when the run has claimed the thread in the database.
    """

    def __init__(self, leases: Leases, thread_id: str, taken_from: Lease | None) -> None:
        self.thread_id = thread_id
        self.key: object = None
        self.taken_from = taken_from
        self.stopping = False
        self.on_claim: Callable[[], None] | None = None
        self._leases = leases
        self._taken = False
        self._waits = False
        self._since = 0.0

    @property
    def is_free(self) -> bool:
        """Nobody asks this run to go on: another one may have the thread."""
        return self._waits

    @property
    def waits_for(self) -> float:
        """Seconds that its consumer has been away."""
        return time.monotonic() - self._since if self._waits else 0.0

    def take(self) -> None:
        """Another run has the thread from here on."""
        self._taken = True

    def end(self) -> None:
        """Its run has ended: a control that asks it whether to stop keeps it, so it keeps no control any more."""
        self.key = self.taken_from = self.on_claim = None

    def wait_for_consumer(self) -> None:
        """A stream gives an item away: whether its consumer comes back is not known."""
        self._since = time.monotonic()
        self._waits = True

    def go_on(self) -> None:
        """The consumer has come back for the next item.

        Raises:
            StaleRun: another run has taken the thread over meanwhile.
        """
        with self._leases.lock:
            if self._taken:
                raise stale(self.thread_id)
            self._waits = False


class Leases:
    """The threads that flows of this process are running, by thread id. For any thread and event loop."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._held: dict[str, Lease] = {}

    def threads(self) -> set[str]:
        """The threads that have a run under way."""
        return set(self._held)

    def holder(self, thread_id: str) -> Lease | None:
        """Who has a thread."""
        return self._held.get(thread_id)

    @contextmanager
    def exclusive(self, thread_id: str, *, over: Lease | None = None) -> Iterator[Lease]:
        """Hold a thread against other runs of this process.

        A run whose stream has given an item away, and whose consumer has not come back, may have been left for good:
        such a stream stays suspended until it is collected or closed. It gives way, and is told so if it goes on. So
        does the run `over` which this one is to go, wherever it is.

        Raises:
            ThreadBusy: one is at work. (A run in another process is not waited for: it is fenced.)
        """
        with self.lock:
            other = self._held.get(thread_id)
            if other is not None:
                if not other.is_free and other is not over:
                    raise ThreadBusy(
                        f"Thread {thread_id!r} is being run by this process right now. Wait for that run, or use "
                        f"another thread id."
                    )
                other.take()
            lease = self._held[thread_id] = Lease(self, thread_id, other)
        try:
            yield lease
        finally:
            with self.lock:
                if self._held.get(thread_id) is lease:
                    del self._held[thread_id]
            lease.end()
