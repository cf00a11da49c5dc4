"""One super-step: its tasks, the snapshot they share, and what its commit will rest on.

The rules of single tasks are in `task`, those of the snapshot in `snapshot`. What stands here is how they meet: a read
goes through the snapshot into the log of its task; a snapshot in which the log says something else makes the tasks
concerned drift, and they alone. Drifted tasks are told at their next call, their results are not kept, and the others
go on in the newer snapshot.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langgraph.errors import GraphBubbleUp

from superstep.checkpointer.database.errors import Connection, is_lost, is_serialization_failure, read_error, short
from superstep.checkpointer.database.retry import retry
from superstep.checkpointer.step.after_writes import digests_after_writes
from superstep.checkpointer.step.costs import Costs
from superstep.checkpointer.step.ports import Withdrawal
from superstep.checkpointer.step.read_set import Effect, Read
from superstep.checkpointer.step.snapshot import Snapshot
from superstep.checkpointer.step.statements import reads_only
from superstep.checkpointer.step.stored_args import copied
from superstep.checkpointer.step.task import Attempt, Task, TaskState
from superstep.runtime.faults import NoActiveStep, ReadRefused, StaleRun, StepConflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import asyncpg

    from superstep.checkpointer.step.answers import Answer
    from superstep.checkpointer.step.ports import Caller, Owner

__all__ = ["Drift", "SuperStep"]

_READ_TRIES = 8
_HAND_IN = 30.0  # seconds that a task's result may come later than the end of its super-step


class Drift(StepConflict, GraphBubbleUp):
    """The facts of the calling task have changed.

    Raised inside nodes and tools. It is one of LangGraph's bubble-up exceptions, so neither a retry policy nor a tool
    node's error handling swallows it, and sibling tasks may finish what they are paying for.
    """


class SuperStep:
    """The super-step that started from `checkpoint_id` in namespace `ns`. Lives on the saver's event loop.

    Attributes:
        owner: the run.
        costs: of all its attempts so far.
        tasks: by id: all that read, staged, asked a model, or were loaded with results.
        snapshot: see there.
    """

    def __init__(self, owner: Owner, ns: str, checkpoint_id: str) -> None:
        self.owner = owner
        self.ns = ns
        self.checkpoint_id = checkpoint_id
        self.costs = Costs()
        self.tasks: dict[str, Task] = {}
        self.snapshot = Snapshot(owner.database)
        self._ended = False
        self._handed_in = asyncio.Event()
        self._started = time.perf_counter()

    # -- tasks ---------------------------------------------------------------------------------------------------

    def load(self, effects: Iterable[Effect], costs: Costs | None, asked_again: Iterable[str] = ()) -> None:
        """What earlier attempts of this super-step left behind: hypotheses until validated."""
        for effect in effects:
            self._task(effect.task_id).load(effect)
        for task_id in asked_again:
            self._task(task_id).facts_changed = True
        if costs is not None:
            self.costs = costs
            self.costs.attempts += 1

    def attempt(self, task_id: str, node: str, number: int, callers: dict[str, str]) -> Attempt:
        """The log of one execution of a task. See `Task.begin`.

        Raises:
            Drift: the task's facts have changed.
            NoActiveStep: the super-step is over.
        """
        attempt = self._task(task_id).begin(node, number, callers)
        self.check(attempt)
        return attempt

    def finish(self, task_id: str, mark: str | None, path: str) -> Effect | None:
        """What the task rests on that has finished with the writes of this mark. See `Task.finish`."""
        task = self.tasks.get(task_id)
        effect = task.finish(mark, path) if task is not None else None
        self._handed_in.set()
        return effect

    def ask(self, task_id: str, path: str) -> Effect | None:
        """What a human is shown who is asked by the task. See `Task.ask`."""
        task = self.tasks.get(task_id)
        effect = task.ask(path) if task is not None else None
        self._handed_in.set()
        return effect

    def fail(self, task_id: str) -> None:
        """The task ended in an error: nothing of it counts."""
        if task_id in self.tasks:
            self.tasks[task_id].fail()
        self._handed_in.set()

    def adopt(self, task_id: str, path: str, stray: SuperStep) -> Effect:
        """Take over what a subgraph's task did whose own super-step never ends: it left with a `Command.PARENT`.

        The command makes the task that runs the subgraph finish in its place, so that task's result rests on it.
        Executions that were cancelled (the caller timed out) did not leave that way.
        """
        left = (t.attempt for t in stray.tasks.values() if t.attempt is not None and t.state is not TaskState.FINISHED)
        return self._task(task_id).adopt((attempt for attempt in left if not attempt.cancelled), path)

    def knows(self, task_id: str, mark: str) -> bool:
        """Whether the marked execution of the task happened in this attempt of the super-step."""
        return task_id in self.tasks and self.tasks[task_id].knows(mark)

    def asked_before(self, task_id: str) -> bool:
        """Whether the task asked a human before, about facts that have moved since."""
        return task_id in self.tasks and self.tasks[task_id].facts_changed

    async def all_handed_in(self) -> None:
        """Wait until every task that used its step has been handed in: finished, failed, or asking.

        Raises:
            StaleRun: LangGraph never did, so committing would drop what the task staged.
        """
        deadline = time.monotonic() + _HAND_IN
        while awaited := [task.id for task in self.tasks.values() if task.awaited]:
            self._handed_in.clear()
            try:
                await asyncio.wait_for(self._handed_in.wait(), deadline - time.monotonic())
            except TimeoutError as e:
                raise StaleRun(
                    f"Tasks {sorted(awaited)} of thread {self.owner.thread_id!r} used their step, but their results "
                    f"never arrived. Nothing was committed; continue with `runtime resume`."
                ) from e

    def check(self, attempt: Attempt) -> None:
        """Raise `Drift` if the facts of the attempt's task have changed, `NoActiveStep` if the super-step is over."""
        if self._ended:
            raise NoActiveStep(
                f"The super-step of {attempt.node!r} has ended: what outlives its node cannot read or write in it."
            )
        for task in (self.tasks[attempt.task_id], *(caller.task for caller in self._callers())):
            if task.state is TaskState.DRIFTED:
                raise Drift(
                    f"The facts that {task.node!r} had read changed before its super-step could commit. "
                    f"Nothing was written; run the thread again with input None, or wrap the graph in transactional().",
                    tasks=[task.node],
                    attempts=self.costs.attempts,
                )

    def _task(self, task_id: str) -> Task:
        task = self.tasks.get(task_id)
        if task is None:
            task = self.tasks[task_id] = Task(task_id)
        return task

    # -- what the commit rests on ----------------------------------------------------------------------------------

    @property
    def drifted(self) -> dict[str, str]:
        """Tasks (id to node) whose facts have changed."""
        return {task.id: task.node for task in self.tasks.values() if task.state is TaskState.DRIFTED}

    def effects(self) -> list[Effect]:
        """What a commit of this step must validate, apply and record, in task-path order."""
        rested = [task.effect for task in self.tasks.values() if task.effect is not None and not task.effect.empty]
        return sorted(rested, key=lambda effect: (effect.path, effect.task_id))

    @property
    def has_reads(self) -> bool:
        """Whether a new transaction would have anything to replay."""
        return any(reads for _, reads in (*self._log(), *self._log_of_callers()))

    @property
    def rests_on_anything(self) -> bool:
        """Whether the commit has something to validate, to apply or to refuse.

        A nested super-step that neither read nor staged has not: what its callers have read is validated with theirs.
        """
        own = any(reads for _, reads in self._log()) or any(effect.staged for effect in self.effects())
        return own or any(
            t.state is TaskState.DRIFTED for t in (*self.tasks.values(), *(c.task for c in self._callers()))
        )

    @property
    def calls_back(self) -> bool:
        """Whether the tasks in which this graph runs have read anything."""
        return any(reads for _, reads in self._log_of_callers())

    @property
    def node_names(self) -> set[str]:
        """Names of the tasks that are known to have taken part."""
        return {task.node for task in self.tasks.values() if task.took_part}

    def elapsed_ms(self) -> float:
        """Milliseconds since this attempt of the super-step began, plus those of the attempts before it."""
        return self.costs.ms + (time.perf_counter() - self._started) * 1000

    def _log(self) -> Iterator[tuple[Task, list[Read]]]:
        """Everything that the step's own tasks rest on, what a human was shown included."""
        for task in list(self.tasks.values()):
            for reads in task.logs():
                yield task, reads

    def _log_of_callers(self) -> Iterator[tuple[Task, list[Read]]]:
        """What the tasks rest on, so far, in which this graph runs as a subgraph."""
        for caller in self._callers():
            for reads in caller.task.logs():
                yield caller.task, reads

    def _callers(self) -> Sequence[Caller]:
        return self.owner.callers(self.ns) if self.ns else ()

    # -- reads ---------------------------------------------------------------------------------------------------

    async def read(self, attempt: Attempt, sql: str, args: tuple[Any, ...]) -> list[asyncpg.Record]:
        """Run a read in the step's snapshot and log it.

        Raises:
            ReadRefused: the statement is not a read, or the database says it would write.
            ReadFailed: the database rejected it (a fact as rows are); the snapshot and other tasks are unharmed.
            Drift: the task's earlier reads no longer hold.
        """
        args = copied(args)  # what a node does to a list it passed must not change what was asked
        if not reads_only(sql):
            raise ReadRefused(f"Not a read: {short(sql)}. Use step.stage(...) for statements that write.")
        self.check(attempt)

        async def once() -> Answer:
            await self.pin()
            self.check(attempt)
            return await self.snapshot.ask(sql, args)

        async def failed(error: Exception, left: int) -> None:
            # A failed transaction or connection is no fault of the read: what was read before is in the log.
            if not left or not (is_serialization_failure(error) or is_lost(error, self.snapshot.conn)):
                raise read_error(error, sql) from error
            await self.snapshot.lost()

        await self.begun()
        async with self.snapshot.lock:
            try:
                answer = await retry(once, failed, tries=_READ_TRIES)
                read = Read(sql, args, answer.digest)
                self.snapshot.note(read, answer)
                attempt.reads.append(read)
            finally:
                await self.snapshot.rest()
        if answer.error is not None:
            raise answer.error
        return list(answer.rows)

    async def begun(self) -> None:
        """Wait until what the step started from is committed; fail as that commit does.

        Before any lock is taken or connection acquired: the commit that is waited for needs both.
        """
        await self.owner.begun(self.ns, self.checkpoint_id)

    async def pin(self, *, for_commit: bool = False) -> Connection:
        """The connection with the step's open, validated transaction. Call with the snapshot's lock held.

        Tasks whose facts have changed drift on the way. For a commit, what callers have read is validated too.

        Raises:
            Drift: facts of a caller have changed.
        """
        if for_commit and self.snapshot.asks_again:
            await self.snapshot.lost()
        while moved := await self.snapshot.pin(self._log(), self._log_of_callers() if for_commit else ()):
            try:
                await self._all_drift(moved, self.connection)
            except BaseException:
                await self.snapshot.lost()
                raise
        return self.connection

    async def _all_drift(self, moved: list[Task], conn: Connection) -> None:
        """Let own tasks and callers drift, each in its super-step.

        Raises:
            Drift: a caller is among them: this super-step is part of what runs again.
        """
        if own := [task for task in moved if self.tasks.get(task.id) is task]:
            await self.drift(own, conn)
        for caller in [caller for caller in self._callers() if caller.task in moved]:
            await caller.step.drift([caller.task], conn)
        self.refuse_drifted_callers()

    def refuse_drifted_callers(self) -> None:
        """Raise `Drift` if a task in which this graph runs has drifted: the conflict is that task's."""
        if names := sorted({each.task.node for each in self._callers() if each.task.state is TaskState.DRIFTED}):
            raise Drift(
                f"Facts that {', '.join(names)} had read in thread {self.owner.thread_id!r} changed before a subgraph "
                f"called there could commit. The subgraph's super-step was not written; only {', '.join(names)} runs "
                f"again when the thread is run with input None (transactional(graph) does that).",
                tasks=names,
                attempts=self.costs.attempts,
            )

    async def reject(self, effect: Effect) -> None:
        """The commit cannot apply what a task staged: roll it back, and let the task run again."""
        conn = await self.snapshot.roll_back()
        await self.drift([self.tasks[effect.task_id]], conn)

    async def drift(self, moved: Iterable[Task], conn: Connection) -> None:
        """These tasks, and those that called them in this super-step, must run again; all other results stay.

        On a connection that is in no transaction.
        """
        asked = []
        for task in moved:
            self.costs.drifts += 1
            for each, name in ((task.id, task.node), *task.callers.items()):
                drifted = self._task(each)
                drifted.node = name
                if drifted.drift():
                    asked.append(each)
        self._handed_in.set()
        what = Withdrawal(self.ns, self.checkpoint_id, self.drifted, asked, self.costs, self.elapsed_ms())
        await self.owner.take_back(what, conn)

    async def callers_after_writes(self) -> list[tuple[list[Read], int, Read]]:
        """What callers' reads say now that this super-step's writes are applied in its transaction.

        A task reads a balance, and the agent that it calls draws on it: that is no change of the task's fact from
        outside. `move_callers_on` makes the new state the one that the task's own commit will compare with.

        Returns:
            Per read: the log it stands in, its place there, and the read with its new digest.
        """
        logs = [reads for _, reads in self._log_of_callers()]
        digests = iter(await digests_after_writes(self.connection, [read for reads in logs for read in reads]))
        return [(reads, n, replace(read, digest=next(digests))) for reads in logs for n, read in enumerate(reads)]

    async def move_callers_on(self, found: Iterable[tuple[list[Read], int, Read]]) -> None:
        """This super-step is committed: its callers go on in a snapshot that has its writes.

        Call without any lock: it waits for reads of the callers that are under way.
        """
        for reads, place, read in found:
            reads[place] = read
        for caller in self._callers():
            await caller.step.snapshot.release()

    @property
    def connection(self) -> Connection:
        """The connection of the snapshot, which must hold one."""
        if self.snapshot.conn is None:
            raise AssertionError("the snapshot has no connection")
        return self.snapshot.conn

    async def end(self) -> None:
        """The step is over, one way or the other: no task may use it any more."""
        self._ended = True
        await self.snapshot.close()
