"""One super-step on the database side: its snapshot, its read log, and what its tasks want written.

Invariants kept here:

*One snapshot.* All reads of all tasks go through one SERIALIZABLE transaction, one after the other. When that
transaction was given back (`Connections`), the next read opens another and first runs the whole read log again. Rows
that come back the same make the newer snapshot indistinguishable from the older one, for every task (snapshot
extension, as in the LSA and TL2 software transactional memories). Tasks whose rows differ are *drifted*: they are told
at their next call, their results are not kept, and the others go on in the new snapshot.

*Reads cannot write.* The transaction's reads run in a subtransaction that is read-only; ROLLBACK TO it ends that, keeps
the snapshot, and also repairs the transaction after a read the database rejected. The snapshot is taken before
read-only is set, since SSI decides at that moment whether to treat a transaction as read-only for good.

*One attempt, one result.* A task's attempts (LangGraph's retry policy) have separate logs, and only the attempt that
LangGraph says has finished counts.
"""

from __future__ import annotations

import asyncio
import copy
import time
from typing import TYPE_CHECKING, Any

import asyncpg

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.database.errors import read_error, short
from superstep.checkpointer.database.leases import (
    DRIVER_ERRORS,
    Connection,
    is_closed,
    is_lost,
    is_serialization_failure,
)
from superstep.checkpointer.step.read_set import Effect, Read, digest_rows, is_ordered, reads_only
from superstep.checkpointer.step.task import Attempt, Costs, Drift
from superstep.runtime.faults import NoActiveStep, ReadRefused, StaleRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from superstep.checkpointer.threads.run import Run

__all__ = ["SuperStep"]

_OPEN = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; SAVEPOINT reads; SET LOCAL transaction_read_only = on"
_MEND = "ROLLBACK TO SAVEPOINT reads; SET LOCAL transaction_read_only = on"
_READ_TRIES = 8
_HAND_IN = 30.0  # seconds that a task's result may come later than the end of its super-step


class SuperStep:
    """The super-step of `run` that started from `checkpoint_id` in namespace `ns`. Lives on the saver's event loop."""

    def __init__(self, run: Run, ns: str, checkpoint_id: str) -> None:
        self.run = run
        self.ns = ns
        self.checkpoint_id = checkpoint_id
        self.costs = Costs()
        self.hypotheses: dict[str, Effect] = {}
        self.results: dict[str, Effect] = {}
        self.drifted: dict[str, str] = {}
        self.facts_changed: set[str] = set()
        self.lock = asyncio.Lock()
        self.conn: Connection | None = None
        self._attempts: dict[str, Attempt] = {}
        self._callers: dict[str, dict[str, str]] = {}
        self.closed = False
        self._settled = asyncio.Event()
        self._dirty = False
        self._timer: asyncio.TimerHandle | None = None
        self._started = time.perf_counter()

    # -- tasks ---------------------------------------------------------------------------------------------------

    def attempt(self, task_id: str, node: str, number: int, callers: dict[str, str]) -> Attempt:
        """The log of one execution of a task. A newer execution replaces an older one."""
        known = self._attempts.get(task_id)
        if known is not None and known.number == number:
            return known
        attempt = Attempt(task_id, node, number, callers)
        self._callers[task_id] = callers
        if known is None or number > known.number:
            self._attempts[task_id] = attempt
        return attempt

    def finish(self, task_id: str, token: str | None, path: str) -> Effect | None:
        """The effect of a task that has finished with the writes marked by `token`."""
        loaded = self.hypotheses.get(task_id)
        if loaded is not None and not loaded.asked:
            del self.hypotheses[task_id]  # the task ran again after all; what a human was shown must hold either way
        attempt = self._attempts.get(task_id)
        if attempt is None or attempt.token != token:
            self._attempts.pop(task_id, None)  # what an earlier execution read and staged is nobody's any more
            self.results.pop(task_id, None)
            return None
        effect = self.results[task_id] = attempt.effect(path=path)
        self._settled.set()
        return effect

    def knows(self, task_id: str, token: str) -> bool:
        """Whether the marked execution of the task happened in this attempt of the super-step."""
        attempt = self._attempts.get(task_id)
        return attempt is not None and attempt.token == token

    def adopt(self, task_id: str, path: str, stray: SuperStep) -> Effect:
        """Take over what a subgraph's task did whose own super-step never ends: it left with a `Command.PARENT`.

        The command makes the task that runs the subgraph finish in its place, so that task's result rests on it.
        Executions that were cancelled (the caller timed out) did not leave that way.
        """
        effect = self.results.setdefault(task_id, Effect(task_id, "", path=path))
        for left, attempt in stray._attempts.items():
            if left not in stray.results and not (attempt.runner and attempt.runner.cancelled()):
                effect.node = effect.node or attempt.node
                effect.reads.extend(attempt.reads)
                effect.staged.extend(attempt.staged)
                effect.uses.extend(what for what in attempt.uses if what not in effect.uses)
        return effect

    def ask(self, task_id: str, path: str) -> Effect | None:
        """The effect of a task that ended in an interrupt: the facts a human is shown."""
        attempt = self._attempts.get(task_id)
        if attempt is None:
            return None
        attempt.asked = True
        self._settled.set()
        return attempt.effect(path=path, asked=True)

    def fail(self, task_id: str) -> None:
        """The task ended in an error: nothing of it counts."""
        self._attempts.pop(task_id, None)
        self.results.pop(task_id, None)
        self.hypotheses.pop(task_id, None)
        self._settled.set()

    async def all_handed_in(self) -> None:
        """Wait until every task that used its step has been handed in: finished, failed, or asking.

        Raises:
            StaleRun: LangGraph never did, so committing would drop what the task staged.
        """
        deadline = time.monotonic() + _HAND_IN
        while any(a.marked and not a.asked and task not in self.results for task, a in self._attempts.items()):
            self._settled.clear()
            try:
                await asyncio.wait_for(self._settled.wait(), deadline - time.monotonic())
            except TimeoutError as e:
                raise StaleRun(
                    f"Tasks {sorted(self._attempts)} of thread {self.run.thread_id!r} used their step, but their "
                    f"results never arrived. Nothing was committed; continue with `runtime resume`."
                ) from e

    def load(self, effects: Iterable[Effect], costs: Costs | None, asked_again: Iterable[str] = ()) -> None:
        """What earlier attempts of this super-step left behind: hypotheses until validated."""
        self.hypotheses = {effect.task_id: effect for effect in effects}
        self._callers = {effect.task_id: effect.callers for effect in self.hypotheses.values()}
        self.facts_changed = set(asked_again)
        if costs is not None:
            self.costs = costs
            self.costs.attempts += 1

    def check(self, attempt: Attempt) -> None:
        """Raise `Drift` if the facts of the attempt's task have changed, `NoActiveStep` if the super-step is over."""
        if self.closed:
            raise NoActiveStep(
                f"The super-step of {attempt.node!r} has ended: what outlives its node cannot read or write in it."
            )
        if attempt.task_id in self.drifted:
            raise Drift(
                f"The facts that {attempt.node!r} had read changed before its super-step could commit. "
                f"Nothing was written; run the thread again with input None, or wrap the graph in transactional().",
                tasks=[attempt.node],
                attempts=self.costs.attempts,
            )

    def effects(self) -> list[Effect]:
        """What a commit of this step must validate, apply and record, in task-path order."""
        kept = {task: effect for task, effect in self.hypotheses.items() if not effect.asked}
        rested = [effect for effect in {**kept, **self.results}.values() if not effect.empty]
        return sorted(rested, key=lambda effect: (effect.path, effect.task_id))

    @property
    def has_reads(self) -> bool:
        """Whether a new transaction would have anything to replay."""
        return any(reads for _, _, reads in self.logs())

    @property
    def rests_on_anything(self) -> bool:
        """Whether the commit has something to validate, to apply or to refuse."""
        return bool(self.drifted) or self.has_reads or any(effect.staged for effect in self.effects())

    @property
    def node_names(self) -> set[str]:
        """Names of the tasks known here: those that read, wrote or called a model, and those loaded with results."""
        running = {attempt.node for attempt in self._attempts.values()}
        return running | {effect.node for effect in self.hypotheses.values()}

    def elapsed_ms(self) -> float:
        """Milliseconds since this attempt of the super-step began, plus those of the attempts before it."""
        return self.costs.ms + (time.perf_counter() - self._started) * 1000

    def logs(self) -> Iterator[tuple[str, str, Sequence[Read]]]:
        """(task id, node, reads) of everything the step rests on, what a human was shown included."""
        for task_id, effect in self.hypotheses.items():
            if effect.asked or task_id not in self._attempts:
                yield task_id, effect.node, effect.reads
        for task_id, effect in self.results.items():
            yield task_id, effect.node, effect.reads
        for task_id, attempt in self._attempts.items():
            if task_id not in self.results:
                yield task_id, attempt.node, attempt.reads

    # -- reads ---------------------------------------------------------------------------------------------------

    async def read(self, attempt: Attempt, sql: str, args: tuple[Any, ...]) -> list[asyncpg.Record]:
        """Run a read in the step's snapshot and log it.

        Raises:
            ReadRefused: the statement is not a read, or the database says it would write.
            ReadFailed: the database rejected it; the snapshot and other tasks are unharmed.
            Drift: the task's earlier reads no longer hold.
        """
        args = copy.deepcopy(args)  # what a node does to a list it passed must not change what was asked
        if not reads_only(sql):
            raise ReadRefused(f"Not a read: {short(sql)}. Use step.stage(...) for statements that write.")
        self.check(attempt)
        async with self.lock:
            try:
                rows = await self._read_locked(attempt, sql, args)
                attempt.reads.append(Read(sql, args, digest_rows(rows, ordered=is_ordered(sql))))
            finally:
                await self._rest()
        return rows

    async def _read_locked(self, attempt: Attempt, sql: str, args: tuple[Any, ...]) -> list[asyncpg.Record]:
        for remaining in reversed(range(_READ_TRIES)):
            try:
                conn = await self.pin()
                self.check(attempt)
                return await self._fetch(conn, sql, args)
            except DRIVER_ERRORS as e:
                # A failed transaction or connection is nobody's fault here: what was read is in the log.
                if not (is_serialization_failure(e) or is_lost(e, self.conn)) or not remaining:
                    raise read_error(e, sql) from e
                await self.lose()
                await self.run.engine.pause(_READ_TRIES - remaining)
        raise AssertionError("unreachable")

    async def _fetch(self, conn: Connection, sql: str, args: tuple[Any, ...]) -> list[asyncpg.Record]:
        try:
            return await conn.fetch(sql, *args)
        except BaseException:
            self._dirty = True  # a rejected or cancelled statement leaves the subtransaction aborted
            raise

    async def pin(self) -> Connection:
        """The connection with the step's open, validated transaction. Call with the lock held."""
        self.run.engine.connections.busy(self)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self.conn is None:
            await self.run.committed(self.ns, self.checkpoint_id)
            self.conn = await self.run.engine.connections.acquire()
            try:
                await self._open(self.conn)
            except BaseException:
                # Failed or cancelled half way: the state of the transaction is not known any more.
                await self.lose()
                raise
        elif self._dirty:
            await self.conn.execute(_MEND)
            self._dirty = False
        return self.conn

    async def _open(self, conn: Connection) -> None:
        """Begin the transaction and run the read log in it, until everything that is left of the log holds."""
        while True:
            self._dirty = False
            await conn.execute(_OPEN)
            await failpoints.hit("step.pinned")
            moved = await self._replay(conn)
            if not moved:
                return
            # Taking results back happens outside the step's transaction, and on this very connection: a step that
            # waited for a second one could wait for ever.
            await conn.execute("ROLLBACK")
            await self.mark_drifted(moved, conn)

    async def _replay(self, conn: Connection) -> dict[str, str]:
        """Run the read log in the new snapshot: the tasks (id to node) for which it says something else."""
        seen: dict[tuple[str, str], bytes] = {}
        moved: dict[str, str] = {}
        for task_id, node, reads in list(self.logs()):
            for read in reads:
                if task_id in moved:
                    break
                if read.key not in seen:
                    seen[read.key] = await self._digest_again(conn, read)
                if seen[read.key] != read.digest:
                    moved[task_id] = node
        return moved

    async def _digest_again(self, conn: Connection, read: Read) -> bytes:
        try:
            rows = await self._fetch(conn, read.sql, read.args)
        except asyncpg.PostgresError as e:
            if is_serialization_failure(e) or is_lost(e, conn):
                raise
            # It worked before and fails now (a table dropped, a division by a new zero): surely a changed fact.
            await conn.execute(_MEND)
            self._dirty = False
            return b""
        return digest_rows(rows, ordered=is_ordered(read.sql))

    async def mark_drifted(self, moved: dict[str, str], conn: Connection) -> None:
        """These tasks (id to node name) must run again: forget their results, keep everybody else's."""
        self.costs.drifts += len(moved)
        for task_id in tuple(moved):
            moved = {**self._callers.get(task_id, {}), **moved}
        asked = [task for task in moved if (h := self.hypotheses.get(task)) is not None and h.asked]
        self.facts_changed.update(asked)
        self.drifted.update(moved)
        for task_id in moved:
            self.fail(task_id)
        await self.run.discard(self, conn, asked)

    # -- the transaction -----------------------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Between reads: keep the transaction for a while, unless somebody waits for its connection."""
        connections = self.run.engine.connections
        if self.conn is None:
            return
        if connections.hold_idle == 0 or connections.wanted:
            await self._close()
            return
        connections.idle(self)
        if connections.hold_idle != float("inf"):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(connections.hold_idle, self.run.engine.spawn, self.release)

    async def release(self) -> None:
        """Roll back and give the connection back. Nothing is lost: the read log says what was seen."""
        async with self.lock:
            await self._close()

    async def _close(self) -> None:
        if self.conn is None:
            return
        self.run.engine.connections.busy(self)
        conn, self.conn = self.conn, None
        try:
            await conn.execute("ROLLBACK")
        except DRIVER_ERRORS:
            await self.run.engine.connections.discard(conn)
        except BaseException:  # cancelled: the connection must not be lost with us
            await self.run.engine.connections.discard(conn)
            raise
        else:
            await self.run.engine.connections.give_back(conn)

    async def lose(self) -> None:
        """The transaction failed. Call with the lock held; the next `pin` opens another."""
        if self.conn is not None and is_closed(self.conn):
            conn, self.conn = self.conn, None
            self.run.engine.connections.busy(self)
            await self.run.engine.connections.give_back(conn)  # the pool replaces a closed connection
        else:
            await self._close()

    async def end(self) -> None:
        """The step is over, one way or the other: nobody may use it any more."""
        self.closed = True
        await self.close()

    async def close(self) -> None:
        """Give the transaction up, whoever else may need another one later."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        await self.release()

    def done(self) -> None:
        """The transaction was committed and its connection is about to be given back by the caller."""
        self.run.engine.connections.busy(self)
        self.conn = None
