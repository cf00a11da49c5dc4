"""Storing one checkpoint, in a transaction or by itself: as the owner of its thread, or from outside of all runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from superstep.checkpointer.commit.carrying import carried
from superstep.checkpointer.commit.queries import Put, checkpoint_exists, put_as_owner, put_outside
from superstep.checkpointer.commit.staged_writes import check_rows
from superstep.checkpointer.langgraph.codec import WriteRows
from superstep.checkpointer.threads.ownership import moved_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.commit.carrying import Load
    from superstep.checkpointer.commit.queries import NewCheckpoint
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.threads.pending_writes import Batch
    from superstep.checkpointer.threads.queries.provenance import Kept
    from superstep.checkpointer.threads.run import Run
    from superstep.runtime.faults import StaleRun

__all__ = ["Storing"]


@dataclass(frozen=True, slots=True)
class Storing:
    """One checkpoint.

    Attributes:
        run: whose checkpoint it is.
        new: where it belongs, and its columns.
        continues: of a caller that is no run: it must continue the latest one.
    """

    run: Run
    new: NewCheckpoint
    continues: bool

    def put(self, record: str | None, batch: Batch | None, kept: Sequence[Kept]) -> Put | None:
        """The checkpoint as a run stores it; `None` if this is no run."""
        if self.run.token is None:
            return None
        writes = WriteRows.merged(result.rows for result in (batch.results if batch is not None else ()))
        root = self.run.provenance.root((self.new.ns, self.new.parent_id or "")) if kept else ""
        return Put(self.new, record, writes, self.run.token, self.run.head, kept, root)

    async def insert(self, conn: Connection, record: str | None, batch: Batch | None, kept: Sequence[Kept]) -> bool:
        """The checkpoint with its values and writes; false if it is there already.

        Raises:
            StaleRun: the run does not own the thread any more.
        """
        schema = self.run.database.schema
        put = self.put(record, batch, kept)
        if put is None:
            stored = await put_outside(conn, schema, self.new, record, continues=self.continues)
        else:
            stored = await put_as_owner(conn, schema, put)
        return stored or await self._is_there(conn)

    async def carry(self, step: SuperStep, load: Load, record: str | None, batch: Batch | None) -> bool:
        """As `insert`, in the transaction of the step, with the staged write that goes along.

        Raises:
            TryApart: the database rejected both together.
            MismatchedRows: the write touched other rows than it was to. See `check_rows`.
        """
        put, conn = self.put(record, batch, ()), step.snapshot.connection
        if put is None:
            raise AssertionError("a staged write goes along with a checkpoint of a run only")
        rows, stored = await carried(conn, self.run.database, put, load)
        await step.snapshot.check_open(load.staged.sql)
        if not stored:
            return await self._is_there(conn)
        await check_rows(step, load.effect, load.staged, rows)
        return True

    async def _is_there(self, conn: Connection) -> bool:
        """It was not stored: false if it is there already."""
        if await checkpoint_exists(conn, self.run.database.schema, self.new):
            return False
        raise self.not_owned()

    def not_owned(self) -> StaleRun:
        """What a run is told that has no right to store it."""
        if self.run.token is not None:
            return self.run.stale()
        return moved_on(self.run.thread_id, self.new.parent_id)
