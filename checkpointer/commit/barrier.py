"""The barrier: everything a super-step read, wrote and produced becomes one transaction, or nothing does.

Which interleavings could break it, and what stops them:

*Another flow changes a row this step read, before our commit.* Direct commit: reads and writes are in one SERIALIZABLE
transaction, so Postgres aborts one of the two (40001) or orders them. Replay commit: the reads are run again inside the
committing transaction and compared, and from then on it is the same case.

*An abort that is nobody's fault* (false positives of SSI, a deadlock, a lost connection): nothing is recomputed. The
read log is run again in a fresh transaction; if it says the same, the very same results are committed there (repair).

Flows whose commits keep aborting each other for nothing commit one after the other for a while (`order`).

Those that wait for each other so commit in one transaction (`sharing`): each is validated after the writes of those
before it, and rolled back alone if it does not hold. Whatever else goes wrong in it may be another one's fault: each
tries again alone.

*Another transaction inserts the row that a task had looked for and stages*, or deletes its parent: the constraint is
violated by what the snapshot does not show. Whatever violates one is tried once more in a fresh snapshot. What the task
had read is validated there first: it has moved, and that is the conflict. If it holds, the write itself is at fault.
A constraint or a trigger that is deferred rejects them at COMMIT; when the writes are tried once more, it is asked
before that, so that the tasks at fault can be told.

*Two runs of one thread.* Both would have to update the same row of `thread` with the token each was given; the second
one finds another token or another head and inserts nothing.

*The answer to COMMIT is lost.* The checkpoint is looked up before anything is decided, least of all whether facts hold
and writes are accepted: they may not be, after the writes of this very commit. The server may still be working on that
COMMIT. It holds the lock of the thread's row until it has ended, so the look-up first waits for that lock. A repeated
commit of one statement queues behind the first one on that row, and then finds the head moved; the look-up that
follows finds the checkpoint. So a commit is applied once whatever the network does.

*A caller drifts while a super-step of its subgraph commits.* What the subgraph has stored is forgotten then, and would
be there again if that commit landed later, on what the caller had read before. So a commit of a subgraph looks whether
a caller has drifted when it begins to write, and whoever lets a caller drift waits, before forgetting, for the commits
below it that are writing. Those have a connection in hand, and wait for nothing that the waiting one holds.

*A step without reads and staged writes* needs no snapshot: its only read is the thread's row, which it updates. It is
one READ COMMITTED statement, atomic by itself, and serializable because that one row orders it.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from superstep.checkpointer.commit import sharing
from superstep.checkpointer.commit.carrying import TryApart, load_of
from superstep.checkpointer.commit.given_up import given_up, store_apart, tries
from superstep.checkpointer.commit.landed import landed
from superstep.checkpointer.commit.order import CommitOrder, Turn
from superstep.checkpointer.commit.queries import NewCheckpoint
from superstep.checkpointer.commit.recording import record_of
from superstep.checkpointer.commit.staged_writes import apply_staged
from superstep.checkpointer.commit.storing import Storing
from superstep.checkpointer.commit.task_results import note_callers
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.database.errors import (
    DRIVER_ERRORS,
    Connection,
    ended_early,
    id_too_long,
    is_collision,
    is_lost,
    is_rejection,
    is_serialization_failure,
    is_short_of_locks,
)
from superstep.checkpointer.database.retry import retry
from superstep.checkpointer.langgraph.encryption import Where
from superstep.checkpointer.step.callers import Callers
from superstep.checkpointer.step.drift import before_commit
from superstep.checkpointer.step.protection import ReadAgain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.commit.carrying import Load
    from superstep.checkpointer.commit.group import Group
    from superstep.checkpointer.commit.step_record import CommitKind
    from superstep.checkpointer.langgraph.codec import CheckpointRow
    from superstep.checkpointer.step.callers import Moved
    from superstep.checkpointer.step.ports import Caller
    from superstep.checkpointer.step.read_set import Effect
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.threads.pending_writes import Batch
    from superstep.checkpointer.threads.run import Run

__all__ = ["Barrier"]


@dataclass(slots=True)
class Barrier:
    """One checkpoint about to be committed by a run, with all that goes into the same transaction.

    Attributes:
        run: whose checkpoint it is.
        ns: the namespace.
        checkpoint_id: its id.
        parent_id: the checkpoint that the super-step started from.
        row: what is stored of it.
        ends_step: a super-step with tasks ends here; otherwise it is new input, an update or a fork.
        nodes: names of the tasks of the super-step, for its record.
        continues: of a caller that is no run: the checkpoint must continue the latest one.
        group: the checkpoints that may be stored together with it, if any.
        sent: COMMIT was sent in the latest try.
        noted: what callers rest on that is stored with it.
        shares: it may commit in one transaction with others.
        is_shared: it did so in the latest try: what went wrong may be another one's fault.
        resolved: conflicts that reducers of the graph's channels have resolved in it.
        apart: its one staged write does not go along with the checkpoint: together, the database has rejected them.
    """

    run: Run
    ns: str
    checkpoint_id: str
    parent_id: str | None
    row: CheckpointRow
    ends_step: bool
    nodes: list[str]
    continues: bool = False
    group: Group | None = None
    sent: bool = False
    noted: Sequence[tuple[Caller, Effect]] = ()
    shares: bool = True
    is_shared: bool = False
    resolved: int = 0
    apart: bool = False

    @property
    def is_one_statement(self) -> bool:
        """Whether there is nothing to validate or apply."""
        step = self.run.steps.get(self._at)
        return (step is None or not step.rests_on_anything) and not self.run.provenance.binds

    @property
    def _at(self) -> tuple[str, str]:
        """Where the super-step that it ends began."""
        return self.ns, self.parent_id or ""

    async def commit(self) -> None:
        """Commit, repairing as often as needed.

        Raises:
            StepConflict: facts of some tasks changed; their results are taken back, the others' are stored.
            StagedWriteFailed: the database rejected a staged write; that task's result is taken back.
            StaleRun: the thread has another owner. Nothing is stored.
        """
        namespace = self.run.namespaces[self.ns]
        namespace.begin_commit()
        try:
            await self._commit()
        finally:
            namespace.end_commit()

    async def _commit(self) -> None:
        self.run.refuse_poisoned()
        await self.run.begun_above(self.ns)
        step = await self._step()
        batch = self.run.writes.take(*self._at)
        try:
            if step is None or not (step.rests_on_anything or self.run.provenance.has_log):
                await self._alone(step, batch)
            else:
                provenance = self.run.provenance
                async with provenance.lock if provenance.binds else nullcontext():
                    if provenance.binds and step.snapshot.began <= provenance.moved_at:
                        await step.snapshot.release()
                    callers = await self._in_turn(step, batch)
                    provenance.committed(self._at)
                await step.callers.move_on(callers)
                if step.tasks.have_writes:
                    step.callers.lead()
                    self.run.in_flight.moved_by(step)
        except BaseException as e:
            try:
                if step is not None:
                    await step.end()  # first: storing apart needs a connection
                if batch is not None:
                    await store_apart(self.run, self._at, batch, e)
            finally:
                if batch is not None:
                    batch.settle(e)  # whatever happened: no result may wait for ever
            raise
        finally:
            if step is not None:
                self.run.steps.pop((self.ns, step.checkpoint_id), None)
                await step.end()
        if batch is not None:
            batch.settle()
        for caller, effect in self.noted:
            caller.task.noted = effect.reads
        self.run.provenance.committed(self._at)
        self.run.arrived(self.ns, self.checkpoint_id)
        self.run.commits += self.ends_step

    async def _step(self) -> SuperStep | None:
        """The super-step that this checkpoint ends, with all its results; `None` if it had none to do with us."""
        if self.ends_step and self.run.provenance.is_kept:
            await self.run.provenance.load()
            if self.run.provenance.has_log:  # it is validated also if this super-step has no facts of its own
                self.run.step(*self._at)
        step = self.run.steps.get(self._at)
        if step is None:
            return None
        if not self.ends_step:
            # New input, or a fork: LangGraph has thrown away what unfinished tasks produced, so their effects go too.
            del self.run.steps[self.ns, step.checkpoint_id]
            await step.end()
            return None
        # In synchronous graphs a checkpoint can overtake the results of its tasks: both come from a pool of threads.
        await step.tasks.all_handed_in(self.run.thread_id)
        self.run.refuse_poisoned()
        return step

    # -- without reads -------------------------------------------------------------------------------------------

    async def _alone(self, step: SuperStep | None, batch: Batch | None) -> None:
        """One autocommitted statement, which checkpoints of other flows may share."""
        await failpoints.hit("commit.before_commit")
        record = self._record(step, "direct", step.effects() if step is not None else [])
        kept = self.run.provenance.committing_alone(self._at) if self.ends_step else []
        put = self._storing.put(record, batch, kept)
        if self.group is not None and put is not None and self.ns == "" and not kept:
            if not await self.group.store(put):
                raise self._storing.not_owned()
            return

        callers = Callers(self.run, self.ns)

        async def insert(conn: Connection) -> None:
            with self.run.stores_below(self.ns):
                self.run.refuse_poisoned()
                callers.refuse_drifted(step.costs.attempts if step is not None else 1)
                self.noted = callers.to_note()
                await note_callers(self.run, conn, self.noted)
                await self._storing.insert(conn, record, batch, kept)
            await failpoints.hit("commit.committed")

        await self.run.database.autocommit(insert)

    # -- with reads or staged writes -----------------------------------------------------------------------------

    async def _in_turn(self, step: SuperStep, batch: Batch | None) -> Moved:
        """As `_with_step`, after the commits before it if those keep meeting."""
        order = self.group.order if self.group is not None else CommitOrder(self.run.database)
        async with Turn(order) as turn:
            if order.is_contended:
                await step.snapshot.release()
                await turn.take()
            async with step.snapshot.lock:
                moved = await self._with_step(step, batch, turn)
        order.tried(aborted=False)
        return moved

    async def _with_step(self, step: SuperStep, batch: Batch | None, turn: Turn) -> Moved:
        """Direct commit if the step's transaction is still open, else replay commit; repair until either holds.

        Returns what callers' reads say after it.
        """

        async def failed(error: Exception, left: int) -> None:
            self.shares = False
            lost = is_lost(error, step.snapshot.conn)
            await step.snapshot.lost(error)
            if (too_long := id_too_long(error)) is not None:
                raise too_long from error
            refused = is_collision(error) or (self.sent and not step.collided and is_rejection(error))
            perhaps_of_others, self.is_shared = self.is_shared, False
            refused_read = self.run.provenance.was_rejected(error)
            again = lost or is_serialization_failure(error) or is_short_of_locks(error)
            again = again or refused or refused_read or perhaps_of_others
            if not again:
                raise ended_early(error) or error
            step.collided = step.collided or refused
            self.apart = self.apart or isinstance(error, TryApart)
            otherwise = isinstance(error, TryApart | ReadAgain)  # nobody was in the way: it is tried in another way
            step.costs.repairs += not otherwise
            if not left:
                raise given_up(error, self.checkpoint_id, step, lost=lost)
            if not (lost or otherwise):
                await turn.aborted()

        return await retry(
            lambda: self._try(step, batch, turn), failed, tries=tries(step), outage=self.run.database.outage
        )

    async def _try(self, step: SuperStep, batch: Batch | None, turn: Turn) -> Moved:
        self.sent = False
        if (shared := turn.handed()) is not None:
            if self._may_share(step):
                step.snapshot.adopt(shared)
                self.is_shared = True
            else:
                await shared.commit(self.run.database.connections)
        kind: CommitKind = "direct" if step.snapshot.is_held or not step.has_reads else "replay"
        conn = await step.pin(None if turn.is_contended else (), for_commit=True)
        await failpoints.hit("commit.begun")
        if step.tasks.have_writes and (on_uncommitted := await step.callers.on_uncommitted(step.snapshot, conn)):
            await step.callers.must_lead(on_uncommitted, await step.snapshot.roll_back(), step.costs.attempts)
        with self.run.stores_below(self.ns):
            self._refuse_drift(step)
            return await self._write(conn, step, batch, kind, turn)

    def _may_share(self, step: SuperStep) -> bool:
        return self.shares and self.ns == "" and sharing.may_share(step)

    async def _write(
        self, conn: Connection, step: SuperStep, batch: Batch | None, kind: CommitKind, turn: Turn
    ) -> Moved:
        """Everything that is written, and COMMIT, in the transaction in which everything that was read holds."""
        await failpoints.hit("commit.validated")
        effects = step.effects()
        load = self._load(step, effects)
        await step.snapshot.begin_writes(goes_along=load is not None)
        if load is None:
            await apply_staged(conn, step, effects)
        wrote = step.tasks.have_writes
        callers = await step.callers.after_writes(conn) if wrote and step.callers.have_read else []
        self.noted = step.callers.to_note(callers)
        await note_callers(self.run, conn, self.noted)
        kept = await self.run.provenance.committing(conn, self._at, effects, written=wrote)
        await failpoints.hit("commit.staged")
        record = self._record(step, kind, effects)
        if load is None:
            stored = await self._storing.insert(conn, record, batch, kept)
        else:
            stored = await self._storing.carry(step, load, record, batch)
        if stored:
            await self._finish(step, effects, turn)
        else:
            # An earlier COMMIT of ours, whose answer was lost, has landed meanwhile. What was just applied in this
            # transaction is the second time: roll it back.
            await step.snapshot.lost()
        return callers

    def _load(self, step: SuperStep, effects: Sequence[Effect]) -> Load | None:
        """The staged write that goes along with the checkpoint."""
        run = self.run
        if self.apart or self.ns or step.collided or run.token is None or run.provenance.is_kept:
            return None
        return load_of(effects, run.database)

    def _refuse_drift(self, step: SuperStep) -> None:
        self.run.refuse_poisoned()
        step.callers.refuse_drifted(step.costs.attempts)
        if drifted := step.tasks.drifted:
            raise before_commit(drifted.values(), self.run.thread_id, step.costs.attempts)

    async def _finish(self, step: SuperStep, effects: Sequence[Effect], turn: Turn) -> None:
        """COMMIT, by this super-step or by one that goes on in its transaction."""
        await failpoints.hit("commit.before_commit")
        self.sent = True
        try:
            if self._may_share(step) and await sharing.may_hand_on(step, effects, turn):
                self.is_shared = True
                shared = step.snapshot.hand_on()
                turn.hand_on(shared)
                await shared.committed()
            else:
                await step.snapshot.commit()
            await failpoints.hit("commit.lost_answer")
        except DRIVER_ERRORS as e:
            if is_serialization_failure(e):
                raise
            # Lost, refused at COMMIT, or what came after it failed: the checkpoint tells.
            await step.snapshot.lost(e)
            if not await landed(self.run.database, self._storing.new):
                raise
        await failpoints.hit("commit.committed")

    # -- the checkpoint ------------------------------------------------------------------------------------------

    @property
    def _storing(self) -> Storing:
        new = NewCheckpoint(self.run.thread_id, self.ns, self.checkpoint_id, self.parent_id, self.row)
        return Storing(self.run, new, continues=self.continues)

    def _record(self, step: SuperStep | None, kind: CommitKind, effects: Sequence[Effect]) -> str | None:
        if not (self.ends_step and self.nodes):  # LangGraph's own step that only distributes the input has no nodes
            return None
        where = Where(self.run.thread_id, self.ns, self.checkpoint_id)
        return record_of(self.run, where, step, effects, self.nodes, commit=kind, resolved=self.resolved)
