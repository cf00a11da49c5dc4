"""The runs of one saver in this process: found by LangGraph's run control, and kept apart by thread."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from superstep.checkpointer.collections.embedder import Embedder
from superstep.runtime.faults import StaleRun, ThreadBusy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.threads.run import Run

__all__ = ["Registry"]

_MOST_RUNS = 16_384


class Registry:
    """Shared by a saver and its clones.

    Attributes:
        database: of the saver.
        embedder: embeds texts for `nearest(text=...)`.
        active: threads that a transactional flow of this process is running.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.embedder = Embedder()
        self.active: set[str] = set()
        self._runs: OrderedDict[tuple[int, str], Run] = OrderedDict()

    def find(self, control: object, thread_id: str) -> Run | None:
        """The run of a thread that LangGraph's run control belongs to."""
        run = self._runs.get((id(control), thread_id))
        if run is not None:
            self._runs.move_to_end((id(control), thread_id))
        return run

    def of(self, control: object, thread_id: str) -> Run:
        """As `find`.

        Raises:
            StaleRun: the run has ended.
        """
        run = self.find(control, thread_id)
        if run is None:
            raise StaleRun(f"The run of thread {thread_id!r} has ended; nothing more of it is stored.")
        return run

    def register(self, run: Run) -> None:
        """Remember a run. Runs of plain LangGraph never say that they ended, so those unused longest are forgotten.

        A forgotten run that wakes up after all is refused as stale. The number is far above what one process runs at
        a time.
        """
        self._runs[id(run.control), run.thread_id] = run
        while len(self._runs) > _MOST_RUNS:
            _, oldest = self._runs.popitem(last=False)
            self.database.home.spawn(oldest.close)

    @contextmanager
    def exclusive(self, thread_id: str) -> Iterator[None]:
        """Hold a thread against other runs of this process.

        Raises:
            ThreadBusy: one is running. (A run in another process is not waited for: it is fenced.)
        """
        if thread_id in self.active:
            raise ThreadBusy(
                f"Thread {thread_id!r} is being run by this process right now. Wait for that run, or use another "
                f"thread id."
            )
        self.active.add(thread_id)
        try:
            yield
        finally:
            self.active.discard(thread_id)

    async def end(self, control: object) -> None:
        """The caller knows that the run with this control is over: release whatever its steps hold."""
        for key in [key for key in list(self._runs) if key[0] == id(control)]:
            await self._runs.pop(key).close()

    async def close(self) -> None:
        """Release all pinned transactions."""
        for run in list(self._runs.values()):
            await run.close()
        self._runs.clear()
