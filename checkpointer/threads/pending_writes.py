"""Results of tasks on their way to the database: alone, or with the commit that follows them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from superstep.checkpointer.children import queries
from superstep.checkpointer.children.spawned import WAKE
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.threads.ownership import stale
from superstep.checkpointer.threads.queries import running

if TYPE_CHECKING:
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.ports import Withdrawal
    from superstep.checkpointer.threads.result import Result

__all__ = ["Batch", "PendingWrites"]

_TICKS = 4


@dataclass(slots=True)
class Batch:
    """Results of one super-step that are stored together, and the `save` calls that wait for it."""

    results: list[Result] = field(default_factory=list)
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def add(self, result: Result) -> asyncio.Future[None]:
        """One more result: what its `save` waits for. Each waits by itself, so one that is cancelled stops no other."""
        waiting = asyncio.get_running_loop().create_future()
        self.results.append(result)
        self._waiting.append(waiting)
        return waiting

    def settle(self, error: BaseException | None = None) -> None:
        """Tell the waiting `save` calls how it went. Only the first word counts."""
        for waiting in self._waiting:
            if waiting.done():
                continue
            if error is None:
                waiting.set_result(None)
            else:
                waiting.set_exception(error)
                waiting.exception()  # the failed commit reports it too


class PendingWrites:
    """The results of one run that are not stored yet, and those that were taken back.

    Args:
        database: to store them in.
        thread_id: the run's thread.
        token: its fencing token; `None` for a caller that is no run.

    Attributes:
        asked: names of the questions that its tasks have stopped at.
    """

    def __init__(self, database: Database, thread_id: str, token: int | None) -> None:
        self.asked: set[str] = set()
        self._database = database
        self._thread_id = thread_id
        self._token = token
        self._batches: dict[tuple[str, str], Batch] = {}
        self._storing: set[asyncio.Future[None]] = set()
        self._withdrawn: set[tuple[str, str, str]] = set()
        self._answers_withdrawn = False
        self._only: tuple[str, str] | None = None

    async def save(self, ns: str, checkpoint_id: str, result: Result) -> None:
        """Store a task's result durably.

        The last task of a super-step finishes just before the commit, so results wait a few turns of the event loop
        for that commit to take them along; that makes a step without reads one round trip. If none comes (a sibling
        still runs, the step was interrupted), they are stored by themselves.

        Raises:
            StaleRun: the thread has another owner by now.
        """
        if result.took_answer:  # by itself: with a commit, the answer would not go in the same statement
            await self._forget_answers()  # nor may it come after that
            await self._database.autocommit(lambda conn: self.store(conn, ns, checkpoint_id, [result]))
            return
        key = (ns, checkpoint_id)
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = Batch()
            self._database.home.loop.call_soon(self._tick, key, batch, _TICKS)
        await batch.add(result)

    def take(self, ns: str, checkpoint_id: str) -> Batch | None:
        """The results that are not stored yet, now the caller's to store and to settle."""
        return self._batches.pop((ns, checkpoint_id), None)

    async def store(self, conn: Connection, ns: str, checkpoint_id: str, results: list[Result]) -> None:
        """Write results with their effects: one statement, nothing unless the run owns the thread.

        Results that were taken back while they waited are left out. `withdraw` waits for a statement that is already
        under way, so a result never comes back after it was taken back.

        Raises:
            StaleRun: the run does not own the thread.
        """
        if self._only not in (None, (ns, checkpoint_id)):
            return
        kept = [r for r in results if not self.is_withdrawn(ns, checkpoint_id, r.task_id)]
        if self._answers_withdrawn:
            kept = [r for r in kept if not r.is_answer]
        if not kept:
            return
        under_way = asyncio.get_running_loop().create_future()
        self._storing.add(under_way)
        try:
            owned = await self._put(conn, ns, checkpoint_id, kept)
        finally:
            under_way.set_result(None)
            self._storing.discard(under_way)
        if not owned:
            raise stale(self._thread_id)

    async def _put(self, conn: Connection, ns: str, checkpoint_id: str, results: list[Result]) -> bool:
        """Whether the run owns the thread, and has stored them. Questions are noted together with what asks them."""
        asking = [result for result in results if result.asks]
        if not asking:
            return await running.put_writes(
                conn, self._database.schema, self._thread_id, ns, checkpoint_id, results, self._token
            )
        from superstep.checkpointer.effects.queue import Job, Queue

        async with conn.transaction(isolation="read_committed"):
            schema, at = self._database.schema, (ns, checkpoint_id)
            owned = await running.put_writes(conn, schema, self._thread_id, *at, results, self._token)
            asked = [question for result in asking for question in result.asks]
            if owned:
                ended = await queries.ask(conn, schema, self._thread_id, asking[0].root, at, asked)
                await failpoints.hit("question.asked")
                if ended and await queries.wake(conn, schema, ended):
                    await Queue(self._database).put(conn, [Job(WAKE, b"")])
        return owned

    def is_withdrawn(self, ns: str, checkpoint_id: str, task_id: str) -> bool:
        """Whether the task's result was taken back. Outlives the super-step: a result can still be on its way then."""
        return (ns, checkpoint_id, task_id) in self._withdrawn

    async def withdraw(self, what: Withdrawal) -> None:
        """From now on these results are not stored; when it returns, no statement that stores them is under way."""
        self._answers_withdrawn = self._answers_withdrawn or bool(what.asked)
        self._withdrawn.update((what.ns, what.checkpoint_id, task_id) for task_id in what.tasks)
        await self._stored()

    async def _forget_answers(self) -> None:
        """The answer that names no question is taken, and is not stored any more: a run is entered with one."""
        self._answers_withdrawn = True
        await self._stored()

    async def _stored(self) -> None:
        if self._storing:
            await asyncio.wait(set(self._storing))

    def only(self, ns: str, checkpoint_id: str) -> None:
        """From now on only results of this super-step are stored: the thread goes on from where it started."""
        self._only = (ns, checkpoint_id)

    def _tick(self, key: tuple[str, str], batch: Batch, left: int) -> None:
        if self._batches.get(key) is not batch:
            return  # a commit took it along
        if left:
            self._database.home.loop.call_soon(self._tick, key, batch, left - 1)
        else:
            del self._batches[key]
            self._database.home.spawn(lambda: self._flush(key, batch))

    async def _flush(self, key: tuple[str, str], batch: Batch) -> None:
        try:
            await failpoints.hit("writes.before_flush")
            await self._database.autocommit(lambda conn: self.store(conn, *key, batch.results))
            await failpoints.hit("writes.flushed")
        except BaseException as e:  # noqa: BLE001 - handed to every caller that waits for it
            batch.settle(e)
        else:
            batch.settle()
