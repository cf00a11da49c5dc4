"""One super-step: its tasks, the snapshot they share, and what its commit will rest on.

The rules of single tasks are in `task`, those of the snapshot in `snapshot`. What stands here is how they meet: a read
goes through the snapshot into the log of its task; a snapshot in which the log says something else makes the tasks
concerned drift, and they alone. Drifted tasks are told at their next call, their results are not kept, and the others
go on in the newer snapshot.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.database.errors import (
    Connection,
    is_lost,
    is_serialization_failure,
    is_short_of_locks,
    read_error,
    short,
)
from superstep.checkpointer.database.retry import retry
from superstep.checkpointer.langgraph.encryption import sealing
from superstep.checkpointer.shared.reductions import Reductions
from superstep.checkpointer.step.callers import Callers
from superstep.checkpointer.step.costs import Costs
from superstep.checkpointer.step.drift import ended, facts_changed, in_the_way
from superstep.checkpointer.step.fact import logged
from superstep.checkpointer.step.order_of_tasks import OrderOfTasks
from superstep.checkpointer.step.own_turns import OwnTurns
from superstep.checkpointer.step.ports import Withdrawal
from superstep.checkpointer.step.read_set import Effect, Read, Staged
from superstep.checkpointer.step.snapshot import Snapshot
from superstep.checkpointer.step.statements import reads_only
from superstep.checkpointer.step.stored_args import copied
from superstep.checkpointer.step.task import Attempt, Task, TaskState
from superstep.checkpointer.step.tasks import Tasks
from superstep.checkpointer.step.volatile import never_holds
from superstep.runtime.faults import ReadRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    import asyncpg

    from superstep.checkpointer.step.answers import Answer
    from superstep.checkpointer.step.fact import Condense
    from superstep.checkpointer.step.ports import Owner

__all__ = ["SuperStep"]

_READ_TRIES = 8


class SuperStep:
    """The super-step that started from `checkpoint_id` in namespace `ns`. Lives on the saver's event loop.

    Attributes:
        owner: the run.
        costs: of all its attempts so far.
        tasks: its tasks, by id.
        callers: the tasks in which its graph runs as a subgraph.
        seal: makes the serializer for a place of the database, see `encryption.sealing`.
        reductions: updates of shared values in that transaction.
        snapshot: the transaction that all its reads see.
        collided: a staged write has violated a constraint between rows, in a snapshot that is gone.
        leading: ids of tasks that come before the others, see `order_of_tasks`.
    """

    def __init__(self, owner: Owner, ns: str, checkpoint_id: str) -> None:
        self.owner = owner
        self.ns = ns
        self.checkpoint_id = checkpoint_id
        self.costs = Costs()
        self.tasks = Tasks()
        self.callers = Callers(owner, ns)
        self.seal = sealing(owner.serde)
        self.reductions = Reductions(owner.database, self.seal)
        self.snapshot = Snapshot(owner.database, self.reductions)
        self.collided = False
        self.leading: set[str] = set()
        self._order = OrderOfTasks(self.tasks, self.leading)
        self._turns = OwnTurns(owner, (owner.thread_id, ns, checkpoint_id))
        self._ended = False
        self._started = time.perf_counter()

    # -- tasks ---------------------------------------------------------------------------------------------------

    def load(
        self,
        effects: Iterable[Effect],
        costs: Costs | None,
        asked_again: Iterable[str] = (),
        leading: Iterable[str] = (),
        answered: Collection[str] = (),
    ) -> None:
        """What earlier attempts of this super-step left behind: hypotheses until validated."""
        self.leading.update(leading)
        for effect in effects:
            self.tasks.of(effect.task_id).load(effect, answered=effect.task_id in answered)
        for task_id in asked_again:
            self.tasks.of(task_id).withdrawn += 1
        if costs is not None:
            self.costs = costs
            self.costs.attempts += 1

    def attempt(self, task_id: str, node: str, number: int, callers: dict[str, str], path: str = "") -> Attempt:
        """The log of one execution of a task. See `Task.begin`.

        Raises:
            Drift: the task's facts have changed.
            NoActiveStep: the super-step is over.
        """
        attempt = self.tasks.of(task_id).begin(node, number, callers, path)
        self.check(attempt)
        return attempt

    def finish(self, task_id: str, mark: str | None, path: str) -> Effect | None:
        """What the task rests on that has finished with the writes of this mark. See `Task.finish`."""
        task = self.tasks.get(task_id)
        effect = task.finish(mark, path) if task is not None else None
        self._handed()
        return effect

    def ask(self, task_id: str, path: str) -> Effect | None:
        """What a human is shown who is asked by the task. See `Task.ask`."""
        task = self.tasks.get(task_id)
        effect = task.ask(path) if task is not None else None
        self._handed()
        return effect

    def answer(self, task_id: str) -> None:
        """The task has taken a human's answer. If nothing of it counts in the end, it asks again."""
        self.tasks.of(task_id).answered = True

    def fail(self, task_id: str) -> None:
        """The task ended in an error: nothing of it counts."""
        if task_id in self.tasks:
            self.tasks[task_id].fail()
        self._handed()

    def _handed(self) -> None:
        """The result of a task is here. If the super-step cannot commit in this run any more, others have the turns."""
        self.tasks.note_handed_in()
        if self._turns.has_any and self.tasks.are_stuck:
            self._turns.give_back()

    def adopt(self, task_id: str, path: str, stray: SuperStep) -> Effect:
        """Take over what a subgraph's task did whose own super-step never ends: it left with a `Command.PARENT`.

        The command makes the task that runs the subgraph finish in its place, so that task's result rests on it.
        Executions that were cancelled (the caller timed out) did not leave that way.
        """
        left = (t.attempt for t in stray.tasks.values() if t.attempt is not None and t.state is not TaskState.FINISHED)
        return self.tasks.of(task_id).adopt((attempt for attempt in left if not attempt.cancelled), path)

    def knows(self, task_id: str, mark: str) -> bool:
        """Whether the marked execution of the task happened in this attempt of the super-step."""
        return task_id in self.tasks and self.tasks[task_id].knows(mark)

    def asked_before(self, task_id: str) -> bool:
        """Whether the task asked a human before, about facts that have moved since."""
        return task_id in self.tasks and self.tasks[task_id].withdrawn > 0

    def check(self, attempt: Attempt) -> None:
        """Raise `Drift` if facts of the attempt's task have changed, `NoActiveStep` if it or the super-step is over."""
        own = self.tasks[attempt.task_id]
        if self._ended or own.has_ended(attempt):
            raise ended(attempt.node)
        drifted = [own] if own.state is TaskState.DRIFTED else self.callers.drifted()
        if drifted:
            raise facts_changed(drifted[0].node, self.costs.attempts)

    # -- what the commit rests on ----------------------------------------------------------------------------------

    def effects(self) -> list[Effect]:
        """What a commit of this step must validate, apply and record, in the order of its tasks."""
        return self._order.effects()

    @property
    def has_reads(self) -> bool:
        """Whether a new transaction would have anything to replay."""
        return self.tasks.have_reads or self.callers.have_read

    @property
    def rests_on_anything(self) -> bool:
        """Whether the commit has something to validate, to apply or to refuse.

        A nested super-step that neither read nor staged has not: what its callers have read is validated with theirs.
        """
        own = self.tasks.have_reads or self.tasks.have_writes
        return own or any(t.state is TaskState.DRIFTED for t in (*self.tasks.values(), *self.callers.drifted()))

    def elapsed_ms(self) -> float:
        """Milliseconds since this attempt of the super-step began, plus those of the attempts before it."""
        return self.costs.ms + (time.perf_counter() - self._started) * 1000

    def _log(self) -> Iterator[tuple[Task, list[Read], Sequence[Staged]]]:
        """Everything that the step's own tasks rest on, what a human was shown included.

        With each the writes that reads marked `after` were made on top of.
        """
        for task in list(self.tasks.values()):
            for reads in task.logs():
                yield task, reads, self.view_of(task)

    def view_of(self, task: Task) -> Sequence[Staged]:
        """The staged writes of tasks before this one that its reads marked `after` were made on top of."""
        return self._order.view_of(task)

    # -- reads ---------------------------------------------------------------------------------------------------

    async def read(  # long: one walk with the lock in hand, and what happens if it fails on the way
        self,
        attempt: Attempt,
        sql: str,
        args: tuple[Any, ...],
        *,
        validate: bool = True,
        condense: Condense | None = None,
    ) -> list[asyncpg.Record]:
        """Run a read in the step's snapshot and log it, unless it is not to be validated.

        With `condense`, what that makes of the rows is logged in place of them.

        Raises:
            ReadRefused: the statement is not a read, or the database says it would write.
            ReadFailed: the database rejected it (a fact as rows are). It may take a newer snapshot, see `protection`.
            Drift: the task's earlier reads no longer hold.
        """
        args = copied(args)  # what a node does to a list it passed must not change what was asked
        if not reads_only(sql):
            raise ReadRefused(f"Not a read: {short(sql)}. Use step.stage(...) for statements that write.")
        self.check(attempt)

        view = self.sees_writes_before(attempt)

        async def once() -> Answer:
            self.check(attempt)  # it may have ended while this waited: nothing is opened then
            await self.pin(None if view else (sql,))
            self.check(attempt)
            return await self.snapshot.ask(sql, args, view)

        async def failed(error: Exception, left: int) -> None:
            # A failed transaction or connection is no fault of the read: what was read before is in the log.
            if not left and is_serialization_failure(error):
                raise in_the_way(attempt.node, self.costs.attempts) from error
            again = is_serialization_failure(error) or is_lost(error, self.snapshot.conn) or is_short_of_locks(error)
            if not left or not again:
                raise read_error(error, sql) from error
            await self.snapshot.lost(error)

        await self.begun()
        if self.owner.takes_turns and not self.owner.turns.hot.is_quiet:
            await self._take_turns(Read(sql, args, b"").question if validate else None)
            self.check(attempt)
        async with self.snapshot.lock:
            try:
                answer = await retry(once, failed, tries=_READ_TRIES, outage=self.owner.database.outage)
                if validate:
                    read = Read(sql, args, answer.digest, after=bool(view), columns=answer.columns)
                    read, said, seen = await logged(read, answer, condense)
                    self.snapshot.replay.note(read, said, view)
                    attempt.reads.append(read)
                    if self._turns.took and (key := read.turn_key) in self._turns.took:
                        self._turns.took.discard(key)
                        self.owner.turns.hot.answered(key, seen)
            finally:
                # What was looked at for a condition is more than that is about, and all of it is locked meanwhile.
                await self.rest(sql, briefly=validate and condense is not None)
        if answer.error is not None:
            raise answer.error
        return list(answer.rows)

    def sees_writes_before(self, attempt: Attempt) -> Sequence[Staged]:
        """Staged writes of the tasks before its own that the reads of this execution are made on top of."""
        if attempt.view is None:
            attempt.view = self._order.saved_writes_before(attempt)
        return attempt.view

    async def rest(self, after: str, *, briefly: bool = False) -> None:
        """After a read, with the snapshot's lock held. See `Rest.begin`."""
        await (self.snapshot.lost() if self._ended else self.snapshot.rest(after, briefly=briefly))

    async def _take_turns(self, question: bytes | None) -> None:
        """With nothing in hand: the snapshot is given back, and what was read is validated when it is taken again."""
        if wanted := await self._turns.wanted(question):
            await self.snapshot.release()
            seconds = await self._turns.take(wanted)
            self.costs.waited_ms += seconds * 1000
            self.costs.escalated = self.costs.escalated or self._turns.has_any

    def contended(self, moved: Iterable[tuple[Task, Read]]) -> None:
        """Reads of these tasks have moved, as far as they are its own: the next attempt takes turns on them."""
        own = [(task, read) for task, read in moved if self.tasks.get(task.id) is task]
        questions = (read.question for _, read in own)
        self.costs.conflict(self.owner.name_of_key(each) for each in questions if each is not None)
        tasks = {task.id: task for task, _ in own}.values()
        self._turns.moved([read for _, read in own], [read for task in tasks for log in task.logs() for read in log])

    async def begun(self) -> None:
        """Wait until what the step started from is committed; fail as that commit does.

        Before any lock is taken or connection acquired: the commit that is waited for needs both.
        """
        await self.owner.begun(self.ns, self.checkpoint_id)

    async def pin(self, more: Collection[str] | None = None, *, for_commit: bool = False) -> Connection:
        """The connection with the step's open, validated transaction. Call with the snapshot's lock held.

        Tasks whose facts have changed drift on the way. For a commit, what callers have read is validated too.

        `more`: what is read next, if it is known. See `Protection.begin`.

        Raises:
            Drift: facts of a caller have changed.
        """
        if for_commit and self.snapshot.asks_again:
            await self.snapshot.lost()
        others = self._others if for_commit else tuple
        while moved := await self.snapshot.pin(self._log(), others(), more, for_commit=for_commit):
            try:
                await self._all_drift(moved, self.snapshot.connection)
            except BaseException as e:
                await self.snapshot.lost(e)
                raise
        return self.snapshot.connection

    def _others(self) -> Iterator[tuple[Task, Sequence[Read], Sequence[Staged]]]:
        """What a commit validates beside what its own tasks rest on."""
        yield from self.callers.log()
        yield from self.owner.earlier()

    async def _all_drift(self, moved: list[Task], conn: Connection) -> None:
        """Let own tasks and callers drift, each in its super-step.

        Raises:
            Drift: a caller is among them, or an earlier super-step: this one is part of what runs again.
            PlanInvalidated: an earlier super-step is, and cannot run again.
            ReadRefused: what they have read changes by itself, and has kept doing so.
        """
        in_vain = await never_holds(self.snapshot.replay.moved, self._turns.times_moved, conn)
        self.contended(self.snapshot.replay.moved)
        for caller in self.callers.all():
            caller.step.contended(self.snapshot.replay.moved)
        await self.owner.rewind(moved, conn)
        if own := [task for task in moved if self.tasks.get(task.id) is task]:
            await self.drift(own, conn)
        await self.callers.drift(moved, conn)
        if in_vain is not None:
            raise in_vain
        self.callers.refuse_drifted(self.costs.attempts)

    def asks_anew(self, task_id: str) -> Task:
        """A task that has taken an answer not its own: nothing of it counts."""
        task = self.tasks.of(task_id)
        if not task.drift():
            task.withdrawn += 1  # `withdraw_answer` counts it in any case
        self.tasks.note_handed_in()
        return task

    async def withdraw_answer(self, task: Task, conn: Connection) -> None:
        """Take the answers on their way back, with all that drifted tasks have left."""
        await self._take_back([task.id], conn)

    async def reject(self, effect: Effect) -> None:
        """The commit cannot apply what a task staged: roll it back, and let the task run again."""
        await self.reject_all([effect])

    async def reject_all(self, effects: Iterable[Effect]) -> None:
        """As `reject`, for several tasks."""
        conn = await self.snapshot.roll_back()
        await self.drift([self.tasks[effect.task_id] for effect in effects], conn)

    async def drift(self, moved: Iterable[Task], conn: Connection) -> None:
        """These tasks, and those that called them in this super-step, must run again; all other results stay.

        On a connection that is in no transaction.
        """
        asked = []
        for task in moved:
            self.costs.drifts += 1
            for each, name in ((task.id, task.node), *task.callers.items()):
                drifted = self.tasks.of(each)
                drifted.node = name
                if drifted.drift():
                    asked.append(each)
        self.tasks.note_handed_in()
        await self._take_back(asked, conn)

    async def _take_back(self, asked: Sequence[str], conn: Connection) -> None:
        ms = self.elapsed_ms()
        what = Withdrawal(self.ns, self.checkpoint_id, self.tasks.drifted, asked, self.costs, ms, self.leading)
        await self.owner.take_back(what, conn)

    async def end(self) -> None:
        """The step is over, one way or the other: no task may use it any more."""
        self._ended = True
        self._turns.end(again=bool(self.tasks.drifted))
        await self.snapshot.close()
