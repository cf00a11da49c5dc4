"""What calls do to a thread that they do not run, or not yet: lift it, look who runs it, take an input back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.commit.cancelling import cancel
from superstep.checkpointer.commit.lifting import Lift, lift
from superstep.checkpointer.langgraph.codec import checkpoint_tuple
from superstep.checkpointer.langgraph.ids import usable_thread
from superstep.checkpointer.langgraph.standing import is_parked
from superstep.checkpointer.langgraph.typed_saver import TypedSaver, typed_for
from superstep.checkpointer.threads.queries import running, workers
from superstep.checkpointer.threads.rollback import roll_back
from superstep.checkpointer.threads.summaries import Runner, runner_of
from superstep.checkpointer.threads.taking import needs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.langgraph.graph_version import GraphVersion
    from superstep.checkpointer.threads.registry import Registry

__all__ = ["ParkedThreads"]


class ParkedThreads:
    """See the module; a part of `TransactionalSaver`."""

    database: Database
    runs: Registry

    async def alift(
        self,
        thread_id: str,
        version: GraphVersion,
        migrate: Callable[[dict[str, Any], str], Any],
        *,
        take_over: bool = True,
    ) -> None:
        """Put the state of a thread through a function, once, and store what comes out with the new version.

        Args:
            thread_id: the thread, of another version of the graph.
            version: of the graph as it is now.
            migrate: see docs/parked-threads.md.
            take_over: whether a run that another process has under way is fenced.

        Raises:
            GraphChanged: it cannot be lifted, or the function has failed. The thread is as it was.
            ThreadBusy: another process runs it, and is not to be fenced.
        """
        if not isinstance(self, TypedSaver):
            raise TypeError("ParkedThreads is a part of a saver")
        what = Lift(thread_id, version, migrate, self.runs.worker.id, take_over)
        await self.database.home.call(lift(self.database, typed_for(version.graph, self).serde, what))

    async def arunner(self, thread_id: str) -> Runner | None:
        """Who runs a thread right now, this process not counted; `None` if nobody does, or nobody who says so."""
        row = await self.database.home.call(
            self.database.autocommit(lambda conn: workers.of_thread(conn, self.database.schema, thread_id))
        )
        return runner_of(row) if row is not None and row["worker_id"] != self.runs.worker.id else None

    async def aroll_back(self, thread_id: str) -> bool:
        """Take back what the input has done to a thread that is being worked on, and end that run.

        Returns:
            Whether there was such a run; without one, nothing was changed.

        Raises:
            RollbackRefused: it has committed domain writes. Nothing was changed, and the run goes on.
        """
        from superstep.checkpointer.fleet.fleet import Fleet

        return await self.database.home.call(
            roll_back(self.database, thread_id, Fleet(self.database, self._serde).taken_back)
        )

    async def ais_parked(self, thread_id: str) -> bool:
        """Whether the latest checkpoint of a thread stands before anything, whatever its graph is by now."""
        thread = usable_thread(thread_id)
        row = await self.database.home.call(
            self.database.autocommit(lambda conn: running.checkpoint(conn, self.database.schema, thread, "", None))
        )
        return row is not None and is_parked(checkpoint_tuple(self._serde, dict(row)).checkpoint)

    async def afits(self, thread_id: str, version: GraphVersion) -> bool:
        """Whether a graph of this version can go on with what a thread has left, as far as can be seen."""
        schema, thread = self.database.schema, usable_thread(thread_id)

        async def look(conn: Connection) -> bool:
            row = await workers.of_thread(conn, schema, thread)
            had = row["version"] if row is not None else None
            if row is None or had is None or (had, row["structure"]) == (version.name, version.structure):
                return True
            _, missing = await needs_of(conn, schema, self._serde, version.graph, thread, None)
            return not missing and not version.contradicts(had)

        return await self.database.home.call(self.database.autocommit(look))

    @property
    def _serde(self) -> SerializerProtocol:
        if not isinstance(self, TypedSaver):
            raise TypeError("ParkedThreads is a part of a saver")
        return self.serde

    async def acancel(self, thread_id: str) -> bool:
        """Give up what a thread has left unfinished, also one whose graph is gone: its state stays.

        Returns:
            Whether there was anything; without it, nothing was changed.

        Raises:
            ThreadBusy: it is being run. Nothing was changed.
        """
        return await self.database.home.call(cancel(self.database, self._serde, usable_thread(thread_id)))
