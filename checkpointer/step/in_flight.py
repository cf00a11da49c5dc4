"""Calls of models that are under way, by the facts they rest on: a commit that moves those stops them.

What a call costs is lost when its task has to run again. So the super-steps of one process tell each other: whoever has
committed writes looks once more at what it had read itself, or merged into, and others are thinking on. Tasks whose
facts have moved drift at once, and their calls are cancelled. This is thrift and no guarantee: what is not seen here,
the commit sees.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from superstep.checkpointer.database.errors import DRIVER_ERRORS
from superstep.checkpointer.shared.queries import read as read_of
from superstep.checkpointer.step.answers import Answer, rejected, returned
from superstep.checkpointer.step.order import still_holds
from superstep.checkpointer.step.read_set import Read, Reduction
from superstep.runtime.faults import RuntimeFault

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping
    from typing import Any

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.step.task import Attempt, Task

__all__ = ["Call", "InFlight"]

_MOST = 16  # questions that one commit looks at


@dataclass(slots=True, eq=False)
class Call:
    """A call of a model by an execution of a task.

    Attributes:
        step: the super-step.
        attempt: the execution.
        work: what to cancel; `None` if the caller looks at `stopped` by itself.
        questions: what the facts that it rests on are answers to.
        stopped: its task has drifted.
    """

    step: SuperStep
    attempt: Attempt
    work: asyncio.Task[Any] | None = None
    questions: list[bytes] = field(default_factory=list)
    stopped: bool = False

    def rests_on(self) -> Iterator[tuple[Task, Read]]:
        """The facts of its task and of that one's callers. Not those on top of writes that only their step sees."""
        tasks = (self.step.tasks[self.attempt.task_id], *(caller.task for caller in self.step.callers.all()))
        for task in tasks:
            for log in task.logs():
                yield from ((task, read) for read in log if not read.after)


class InFlight:
    """The calls of one saver's runs. Use on its event loop."""

    def __init__(self) -> None:
        self._calls: defaultdict[bytes, set[Call]] = defaultdict(set)

    def begins(self, call: Call) -> None:
        """It is about to be paid, unless it is stopped."""
        call.questions = [question for _, read in call.rests_on() if (question := read.question) is not None]
        for question in call.questions:
            self._calls[question].add(call)

    def ends(self, call: Call) -> None:
        """It is answered, and paid; or it was given up."""
        for question in call.questions:
            calls = self._calls.get(question, set())
            calls.discard(call)
            if not calls:
                self._calls.pop(question, None)
        call.questions = []

    def moved_by(self, step: SuperStep) -> None:
        """The super-step has committed writes: calls of others that rest on what was there before are a waste."""
        if not self._calls or not (shared := self._shared(step)):
            return
        database = step.owner.database

        async def stop() -> None:
            with suppress(RuntimeFault, *DRIVER_ERRORS):
                await database.autocommit(lambda conn: self._stop_moved(conn, shared))

        database.home.spawn(stop)

    def _shared(self, step: SuperStep) -> dict[bytes, Read]:
        """What the super-step has read itself, or merged into, and calls of other runs rest on."""
        own = [read for effect in step.effects() for read in effect.reads if not read.after]
        for reduction in (staged for effect in step.effects() for staged in effect.staged):
            if isinstance(reduction, Reduction):
                sql, *args = read_of(step.owner.database.schema, *reduction.place)
                own.append(Read(sql, tuple(args), b""))
        asked = {question: read for read in own if (question := read.question) is not None}
        shared = [
            (question, read)
            for question, read in asked.items()
            if any(call.step.owner is not step.owner for call in self._calls.get(question, ()))
        ]
        return dict(shared[:_MOST])

    async def _stop_moved(self, conn: Connection, asked: Mapping[bytes, Read]) -> None:
        """Stop the calls for which one of these questions has another answer now. On a connection in no transaction."""
        answers: dict[bytes, Answer] = {}
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            for question, read in asked.items():
                if (answer := await _answer(conn, read)) is None:
                    break  # rejected, and the transaction with it: the others find out by themselves
                answers[question] = answer
        for call in {call for question in answers for call in self._calls.get(question, ())}:
            moved = []
            for task, read in list(call.rests_on()):
                answer = answers.get(read.question or b"")
                if answer is not None and not await still_holds(conn, read, answer):
                    moved.append((task, read))
            if moved and call.questions:  # it has not ended meanwhile
                await self._stop(call, moved, conn)

    async def _stop(self, call: Call, moved: list[tuple[Task, Read]], conn: Connection) -> None:
        """Let the tasks drift, then tell the call: the run goes on at once, under a token that this run has not."""
        step, tasks = call.step, {task.id: task for task, _ in moved}
        self.ends(call)
        try:
            step.contended(moved)
            for caller in step.callers.all():
                caller.step.contended(moved)
            if own := [task for task in tasks.values() if step.tasks.get(task.id) is task]:
                await step.drift(own, conn)
            await step.callers.drift(list(tasks.values()), conn)
        finally:
            call.stopped = True
            if call.work is not None:
                call.work.get_loop().call_soon_threadsafe(call.work.cancel)


async def _answer(conn: Connection, read: Read) -> Answer | None:
    try:
        return await returned(read.sql, await conn.fetch(read.sql, *read.args))
    except Exception as e:  # a codec of the user's own may raise anything
        if rejected(read.sql, e) is None:
            raise
        return None
