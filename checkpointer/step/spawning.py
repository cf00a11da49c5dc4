"""Child runs of a step, and questions that have an end."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

from superstep.checkpointer.children import queries
from superstep.checkpointer.children.spawned import OF_RUN, OUTCOME, Place, identity, run_of
from superstep.checkpointer.children.waiting import EXPIRED, Terms, for_child, has_expired
from superstep.checkpointer.langgraph.codec import dump
from superstep.checkpointer.langgraph.encryption import at
from superstep.checkpointer.langgraph.ids import usable, usable_thread
from superstep.checkpointer.langgraph.place import nodes_around
from superstep.checkpointer.step.emitting import document_of, require_queue
from superstep.checkpointer.step.read_set import Spawning, Staged
from superstep.runtime.faults import ChildFailed, ConfigError, QuestionExpired
from superstep.runtime.telemetry.switch import active

if TYPE_CHECKING:
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.step.task import Attempt

__all__ = ["Spawns"]

_NOTHING: Any = object()
_ENDED = frozenset({"completed", "failed", "deleted", "deleting"})


class Spawns:
    """The part of `Step` that spawns child runs, waits for them, and asks for a while."""

    _step: SuperStep
    _attempt: Attempt
    _database: Database

    def _stage(self, staged: Staged) -> None:
        raise NotImplementedError

    def spawn(
        self,
        graph: str,
        input: Any,  # noqa: A002 - LangGraph's name
        *,
        thread: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> str:
        """Spawn a child: a run of a graph, queued by the commit of this super-step. Returns its thread id at once.

        It exists exactly if the super-step commits; a worker then takes it, as one of `runtime submit`. The id is that
        of the step and the call, and not of what the input says: a task that runs again spawns the same child.

        Args:
            graph: its name, as `runtime submit` takes it. Whether a worker has it turns out when one looks.
            input: as for `ainvoke`. Plain values, or of types that this graph's state knows.
            thread: thread of the child, if it is to have a certain one. Runs of one thread happen one after the other.
            config: LangGraph's config, without the thread.

        Raises:
            ValueNotSerializable: the input would not come back as itself.
            ConfigError: an id that PostgreSQL cannot hold, or the package of the queue is not installed.
            StepConflict: what this task read before has changed. Do not catch it: it makes the task run again.
        """
        require_queue("step.spawn()")
        step, attempt = self._step, self._attempt
        nth = sum(isinstance(staged, Spawning) for staged in attempt.staged)
        place = Place(step.ns, nodes_around(step.ns), step.checkpoint_id, attempt.root, attempt.task_id, attempt.node)
        child_id = identity(step.owner.thread_id, place, nth)
        name = usable_thread(thread) if thread is not None else child_id
        request = {"input": input, "config": config or {}, "context": None, "traceparent": active.traceparent()}
        kind, stored = dump(at(step.owner.serde, OF_RUN, str(run_of(child_id))), request, "The input of a child run")
        self._stage(Spawning.of(place, nth, usable(graph, "The graph"), name, kind, stored))
        return name

    async def result(self, child: str) -> Any:
        """What a child run has ended with: the output values of its graph.

        If it has not ended, the task stops, as at an interrupt, and the node runs again from its start when the child
        has ended: by a worker, or whoever runs the thread again. No process has to stay for it. A child that asks a
        human has not ended.

        The child was spawned by a super-step before this one, of this thread or of another.

        Args:
            child: what `spawn` returned. Of a thread that has had several children: the latest.

        Raises:
            ChildFailed: it has failed, or was deleted.
            ConfigError: no such child was committed.
        """
        self._step.check(self._attempt)
        if any(isinstance(staged, Spawning) and staged.args[3] == child for staged in self._attempt.staged):
            raise ConfigError(
                f"Child {child!r} is queued by the commit of this very super-step, so it cannot end within it. Await "
                f"its result in a node that comes later."
            )
        row = await self._database.home.call(self._child(child))
        if row is None:
            raise ConfigError(
                f"There is no child run on thread {child!r}. It was never committed, or the thread that has spawned it "
                f"was deleted."
            )
        if row["state"] not in _ENDED:
            raise GraphInterrupt((for_child(row["id"], row["thread_id"], row["graph"]),))
        if row["state"] in ("deleted", "deleting"):
            said = "its thread was deleted"
        else:
            outcome = self._step.seal(OUTCOME, row["id"]).loads_typed((row["kind"], row["outcome"]))
            if row["state"] == "completed":
                return outcome
            said = str(outcome)
        raise ChildFailed(
            f"Child run {child!r} of graph {row['graph']!r} has not ended well: {said}. Look at it with `runtime show "
            f"{child}`; to have it done again, spawn another one.",
            thread=child,
            reason=said,
        )

    async def _child(self, child: str) -> Any:
        # Not in the step's snapshot: what has ended stays so, and a snapshot would be late. But not before that is
        # committed which the step has started from: it may have spawned the child.
        await self._step.begun()
        schema, thread_id = self._database.schema, self._step.owner.trial_of or self._step.owner.thread_id
        return await self._database.autocommit(lambda conn: queries.child(conn, schema, thread_id, child))

    def ask(self, value: Any, *, expires: timedelta | datetime, otherwise: Any = _NOTHING) -> Any:
        """Ask a human, until a certain time: LangGraph's `interrupt`, with an end.

        At that time, by the database's clock, a worker answers in place of the human. Whichever comes first counts, and
        the other one does not.

        Args:
            value: what is asked, as for `interrupt`.
            expires: how long the question stands from when it is first asked, or until when.
            otherwise: what it is answered with then: what JSON can say.

        Returns:
            The answer.

        Raises:
            QuestionExpired: the time is over, and there is no `otherwise`.
            ConfigError: the time is not positive, or has no time zone.
            ValueNotSerializable: `otherwise` is nothing that JSON can say.
        """
        require_queue("step.ask()")
        if isinstance(expires, timedelta) and expires <= timedelta(0):
            raise ConfigError(f"ask(): a question stands for more than no time, not for {expires}.")
        if isinstance(expires, datetime) and expires.tzinfo is None:
            raise ConfigError("ask(): expires needs a time zone, such as datetime.now(UTC) + timedelta(days=1).")
        document = document_of(EXPIRED if otherwise is _NOTHING else otherwise, "otherwise of ask()", "Give it")
        self._step.check(self._attempt)
        self._attempt.terms = Terms(expires, document)
        answer = interrupt(value)
        self._attempt.terms = None
        if has_expired(answer):
            raise QuestionExpired(
                f"The question that {self._attempt.node!r} of thread {self._step.owner.thread_id!r} has asked was not "
                f"answered in time, and names nothing that it is answered with otherwise. Catch this, or give ask() an "
                f"`otherwise`."
            )
        return answer
