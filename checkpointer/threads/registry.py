"""The runs of one saver in this process: found by what identifies them (`keys.run_key`), and by thread."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from superstep.checkpointer.collections.embedder import TextEmbedder
from superstep.checkpointer.collections.known import KnownCollections
from superstep.checkpointer.step.in_flight import InFlight
from superstep.checkpointer.threads.endings import Endings
from superstep.checkpointer.threads.lease import Leases
from superstep.checkpointer.threads.worker import Worker
from superstep.checkpointer.turns import Turns
from superstep.checkpointer.turns.lines import Lines
from superstep.runtime.faults import StaleRun

if TYPE_CHECKING:
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.threads.run import Run

__all__ = ["Registry"]

_MOST_RUNS = 16_384


class Registry:
    """Shared by a saver and its clones.

    Attributes:
        database: of the saver.
        embedder: embeds texts for `nearest(text=...)`.
        collections: which names of collections are known.
        leases: the threads that transactional flows of this process are running.
        worker: this process, in the rows of those threads.
        endings: records how runs have ended.
        in_flight: calls of models by its runs.
        turns: which flows of this process take turns, and on what.
        queues: where calls wait for a thread that is being run, in this process or another.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.embedder = TextEmbedder()
        self.collections = KnownCollections()
        self.leases = Leases()
        self.worker = Worker(database, lambda: bool(self.leases.threads()))
        self.endings = Endings(database)
        self.in_flight = InFlight()
        self.turns = Turns(database)
        self.queues = Lines(database, most=None)
        self._runs: OrderedDict[tuple[int, str], Run] = OrderedDict()
        self._threads: dict[int, set[str]] = {}  # by what identifies their runs

    def find(self, key: object, thread_id: str) -> Run | None:
        """The run of a thread that this key belongs to."""
        at = id(key), thread_id
        run = self._runs.get(at)
        if run is not None:
            self._runs.move_to_end(at)
        return run

    def of(self, key: object, thread_id: str) -> Run:
        """As `find`.

        Raises:
            StaleRun: the run has ended.
        """
        run = self.find(key, thread_id)
        if run is None:
            raise StaleRun(f"The run of thread {thread_id!r} has ended; nothing more of it is stored.")
        return run

    def register(self, run: Run) -> None:
        """Remember a run. Runs of plain LangGraph never say that they ended, so those unused longest are forgotten.

        A forgotten run that wakes up after all is refused as stale. The number is far above what one process runs at
        a time.
        """
        lease = self.leases.holder(run.thread_id)
        if lease is not None and lease.key is run.key and lease.on_claim is not None:
            lease.on_claim()
        self._runs[id(run.key), run.thread_id] = run
        self._threads.setdefault(id(run.key), set()).add(run.thread_id)
        while len(self._runs) > _MOST_RUNS:
            oldest = self._forget(*next(iter(self._runs)))
            self.database.home.spawn(oldest.close)

    async def end(self, key: object) -> None:
        """The caller knows that the runs of this key are over: release whatever their steps hold, and forget them.

        What is left over of them, such as code of a cancelled node, is told that its run has ended.
        """
        for thread_id in list(self._threads.get(id(key), ())):
            if (id(key), thread_id) in self._runs:  # nobody has forgotten it meanwhile
                await self._forget(id(key), thread_id).close()

    def _forget(self, key: int, thread_id: str) -> Run:
        threads = self._threads[key]
        threads.discard(thread_id)
        if not threads:
            del self._threads[key]
        return self._runs.pop((key, thread_id))

    async def close(self) -> None:
        """Release all pinned transactions."""
        for run in list(self._runs.values()):
            await run.close()
        self._runs.clear()
        self._threads.clear()
        await self.turns.close()
        await self.queues.close()
        await self.endings.close()
        await self.worker.leave()
