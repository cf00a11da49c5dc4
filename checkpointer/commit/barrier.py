"""The barrier: everything a super-step read, wrote and produced becomes one transaction, or nothing does.

Which interleavings could break it, and what stops them:

*Another flow changes a row this step read, before our commit.* Direct commit: reads and writes are in one SERIALIZABLE
transaction, so Postgres aborts one of the two (40001) or orders them. Replay commit: the reads are run again inside the
committing transaction and compared, and from then on it is the same case.

*An abort that is nobody's fault* (false positives of SSI, a deadlock, a lost connection): nothing is recomputed. The
read log is run again in a fresh transaction; if it says the same, the very same results are committed there (repair).

*Two runs of one thread.* Both would have to update the same row of `thread` with the token each was given; the second
one finds another token or another head and inserts nothing.

*The answer to COMMIT is lost.* The checkpoint is looked up before anything is decided. If it is not there because the
server is still working on that COMMIT, the repeated transaction queues behind it on the thread's row, and then finds
the head moved; the look-up that follows finds the checkpoint. So a commit is applied once whatever the network does.

*A step without reads and staged writes* needs no snapshot: its only read is the thread's row, which it updates. It is
one READ COMMITTED statement, atomic by itself, and serializable because that one row orders it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.database.errors import plain, short
from superstep.checkpointer.database.leases import DRIVER_ERRORS, Connection, is_lost, is_serialization_failure
from superstep.checkpointer.langgraph.codec import CheckpointRow, WriteRows, for_jsonb
from superstep.runtime.faults import DatabaseUnavailable, RuntimeFault, StagedWriteFailed, StepConflict

if TYPE_CHECKING:
    from superstep.checkpointer.step.read_set import Effect, Staged
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.threads.run import Batch, Run

__all__ = ["Barrier", "MismatchedRows"]

_REPAIRS = 12
# From here on the transaction takes locks. A process that is paused now must not keep others out for ever.
_WRITE = "ROLLBACK TO SAVEPOINT reads; SET LOCAL idle_in_transaction_session_timeout = '60s'"


class MismatchedRows(StepConflict):
    """A staged write touched another number of rows than it expected."""


@dataclass(slots=True)
class Barrier:
    """One checkpoint about to be committed by a run, with all that goes into the same transaction.

    `nodes` are the names of the tasks of the super-step, for the record.
    """

    run: Run
    ns: str
    checkpoint_id: str
    parent_id: str | None
    row: CheckpointRow
    ends_step: bool
    nodes: list[str]

    @property
    def is_one_statement(self) -> bool:
        """Whether there is nothing to validate or apply."""
        step = self.run.steps.get((self.ns, self.parent_id or ""))
        return step is None or not step.rests_on_anything

    async def commit(self) -> None:
        """Commit, repairing as often as needed.

        Raises:
            StepConflict: facts of some tasks changed; their results are taken back, the others' are stored.
            StagedWriteFailed: the database rejected a staged write; that task's result is taken back.
            StaleRun: the thread has another owner. Nothing is stored.
        """
        if self.run.poison is not None:
            raise self.run.poison
        step = await self._step()
        batch = self.run.take(self.ns, self.parent_id or "")
        try:
            if step is None or not step.rests_on_anything:
                await self._alone(step, batch)
            else:
                async with step.lock:
                    await self._with_step(step, batch)
        except BaseException as e:
            try:
                if step is not None:
                    await step.end()  # first: storing apart needs a connection
                if batch is not None:
                    await self._store_apart(batch, e)
            finally:
                if batch is not None:
                    batch.settle(e)  # whatever happened: nobody may wait for ever
            raise
        finally:
            if step is not None:
                self.run.steps.pop((self.ns, step.checkpoint_id), None)
                await step.end()
        if batch is not None:
            batch.settle()
        self.run.arrived(self.ns, self.checkpoint_id)
        self.run.commits += self.ends_step

    async def _step(self) -> SuperStep | None:
        """The super-step that this checkpoint ends, with all its results; `None` if it had none to do with us."""
        step = self.run.steps.get((self.ns, self.parent_id or ""))
        if step is None:
            return None
        if not self.ends_step:
            # New input, or a fork: LangGraph has thrown away what unfinished tasks produced, so their effects go too.
            del self.run.steps[self.ns, step.checkpoint_id]
            await step.end()
            return None
        # In synchronous graphs a checkpoint can overtake the results of its tasks: both come from a pool of threads.
        await step.all_handed_in()
        if self.run.poison is not None:
            raise self.run.poison
        return step

    # -- without reads -------------------------------------------------------------------------------------------

    async def _alone(self, step: SuperStep | None, batch: Batch | None) -> None:
        """One autocommitted statement; repeated after a lost connection it finds its own checkpoint (`_insert`)."""

        async def insert(conn: Connection) -> None:
            await failpoints.hit("commit.before_commit")
            await self._insert(conn, self._stats(step, "direct", step.effects() if step is not None else []), batch)
            await failpoints.hit("commit.committed")

        await self.run.engine.autocommit(insert)

    # -- with reads or staged writes -----------------------------------------------------------------------------

    async def _with_step(self, step: SuperStep, batch: Batch | None) -> None:
        """Direct commit if the step's transaction is still open, else replay commit; repair until either holds."""
        for attempt in range(_REPAIRS):
            kind = "direct" if step.conn is not None or not step.has_reads else "replay"
            try:
                conn = await step.pin()
                await failpoints.hit("commit.begun")
                self._refuse_drift(step)
                await failpoints.hit("commit.validated")
                if await self._apply(conn, step, kind, batch):
                    await self._finish(conn, step)
                else:
                    # An earlier COMMIT of ours, whose answer was lost, has landed meanwhile. What was just applied in
                    # this transaction is the second time: roll it back.
                    await step.lose()
            except DRIVER_ERRORS as e:
                lost = is_lost(e, step.conn)
                await step.lose()
                if not (lost or is_serialization_failure(e)):
                    raise
                step.costs.repairs += 1
                await self.run.engine.pause(attempt)
            else:
                return
        raise self._unreachable() if lost else self._contended(step)

    def _refuse_drift(self, step: SuperStep) -> None:
        if step.drifted:
            names = sorted(set(step.drifted.values()))
            raise StepConflict(
                f"Facts that {', '.join(names)} had read in thread {self.run.thread_id!r} changed before the "
                f"super-step could commit. Nothing was written; only these tasks run again when the thread "
                f"is run with input None (transactional(graph) does that).",
                tasks=names,
                attempts=step.costs.attempts,
            )

    async def _apply(self, conn: Connection, step: SuperStep, kind: str, batch: Batch | None) -> bool:
        """Staged writes and checkpoint; false if the checkpoint is in the database already."""
        await conn.execute(_WRITE)
        effects = step.effects()
        for effect in effects:
            for staged in effect.staged:
                await self._stage(conn, step, effect, staged)
        await failpoints.hit("commit.staged")
        return await self._insert(conn, self._stats(step, kind, effects), batch)

    async def _stage(self, conn: Connection, step: SuperStep, effect: Effect, staged: Staged) -> None:
        """Apply one staged write, or roll back and take its task's result back."""
        try:
            # Always the extended protocol, which takes one statement: "...; COMMIT" must not get through.
            if staged.args:
                status = await conn.execute(staged.sql, *staged.args)
            else:
                statement = await conn.prepare(staged.sql)
                await statement.fetch()
                status = statement.get_statusmsg() or ""
        except (*DRIVER_ERRORS, ValueError, TypeError) as e:
            if is_serialization_failure(e) or is_lost(e, conn):
                raise
            await conn.execute("ROLLBACK")
            await step.mark_drifted({effect.task_id: effect.node}, conn)
            raise StagedWriteFailed(
                f"The database rejected a write staged by {effect.node!r}: {plain(e)}. The super-step was rolled back; "
                f"`runtime resume` (or input None) runs {effect.node!r} again. Statement: {short(staged.sql)}",
                task=effect.node,
                sql=staged.sql,
                sqlstate=getattr(e, "sqlstate", None) if isinstance(e, asyncpg.PostgresError) else None,
            ) from e
        touched = int(status.rsplit(" ", 1)[-1]) if status[-1:].isdigit() else 0
        if staged.expect_rows is not None and touched != staged.expect_rows:
            await conn.execute("ROLLBACK")
            await step.mark_drifted({effect.task_id: effect.node}, conn)
            raise MismatchedRows(
                f"A write staged by {effect.node!r} was to touch {staged.expect_rows} row(s) and touched {touched}. "
                f"Nothing was written; {effect.node!r} must decide again on what is there now. "
                f"Statement: {short(staged.sql)}",
                tasks=[effect.node],
                attempts=step.costs.attempts,
            )

    async def _finish(self, conn: Connection, step: SuperStep) -> None:
        await failpoints.hit("commit.before_commit")
        try:
            await conn.execute("COMMIT")
            await failpoints.hit("commit.lost_answer")
        except DRIVER_ERRORS as e:
            if not is_lost(e, conn):
                raise
            await step.lose()
            if not await self._is_there():
                raise
        else:
            step.done()
            await self.run.engine.connections.give_back(conn)
        await failpoints.hit("commit.committed")

    async def _insert(self, conn: Connection, stats: str | None, batch: Batch | None) -> bool:
        """The checkpoint with its values and writes; false if it is there already.

        Raises:
            StaleRun: the run does not own the thread any more.
        """
        rows = WriteRows.merged(result.rows for result in (batch.results if batch is not None else ()))
        right = "root" if self.ns == "" else "nested"
        run = self.run
        args: list[Any] = [run.thread_id, self.ns, self.checkpoint_id, self.parent_id, *self.row[:5], stats]
        args += [*self.row[5:], *rows, run.token]
        if right == "root":
            args.append(run.head)
        if await conn.fetchval(run.engine.sql[f"put_{right}"], *args) is not None:
            return True
        if await self._there(conn):
            return False
        raise run.stale()

    async def _there(self, conn: Connection) -> bool:
        found = await conn.fetchval(self.run.engine.sql["exists"], self.run.thread_id, self.ns, self.checkpoint_id)
        return bool(found)

    async def _is_there(self) -> bool:
        """Whether our checkpoint was committed; asked on a new connection, as often as the server needs to return."""
        return await self.run.engine.autocommit(self._there)

    # -- around it -----------------------------------------------------------------------------------------------

    async def _store_apart(self, batch: Batch, error: BaseException) -> None:
        """The commit failed: results that were to go with it are stored by themselves, the drifted ones are not."""
        if not isinstance(error, RuntimeFault):
            batch.settle(error)
            return
        try:
            parent = self.parent_id or ""
            await self.run.engine.autocommit(lambda conn: self.run.store(conn, self.ns, parent, batch.results))
        except (RuntimeFault, *DRIVER_ERRORS) as e:
            batch.settle(e)
        else:
            batch.settle()

    def _stats(self, step: SuperStep | None, kind: str, effects: list[Effect]) -> str | None:
        if not (self.ends_step and self.nodes):  # LangGraph's own step that only distributes the input has no nodes
            return None
        costs = step.costs if step is not None else None
        prompts = sorted({what for effect in effects for what in effect.uses})
        text = json.dumps(
            {
                "nodes": self.nodes,
                "attempts": costs.attempts if costs else 1,
                "repairs": costs.repairs if costs else 0,
                "drifts": costs.drifts if costs else 0,
                "escalated": False,
                "commit": kind,
                "reads": sum(len(effect.reads) for effect in effects),
                "writes": sum(len(effect.staged) for effect in effects),
                "llm_reused": costs.llm_reused if costs else 0,
                "ms": round(step.elapsed_ms(), 3) if step is not None else self.run.since_last(self.ns),
                **({"prompts": prompts} if prompts else {}),
            },
            ensure_ascii=False,
        )
        return for_jsonb(text)

    def _contended(self, step: SuperStep) -> StepConflict:
        return StepConflict(
            f"Other transactions kept getting in the way of a super-step of thread {self.run.thread_id!r}: {_REPAIRS} "
            f"commits failed although no fact had changed. All results are kept; run the thread again with input None "
            f"(transactional(graph) does that).",
            attempts=step.costs.attempts,
        )

    def _unreachable(self) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"The database could not commit checkpoint {self.checkpoint_id} of thread {self.run.thread_id!r} in "
            f"{_REPAIRS} tries (connection lost or persistent serialization failures). Nothing is half-written; "
            f"continue with `runtime resume` when the database is back."
        )
