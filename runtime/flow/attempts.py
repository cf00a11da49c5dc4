"""One run of a flow, attempt after attempt: what is the same whether it is driven with an event loop or without."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command

from superstep.checkpointer import CACHE, AttemptControl, EarlierAttempt, RunOptions, graph_version
from superstep.runtime.flow.answers import for_open_questions, for_people, names_any
from superstep.runtime.flow.double_texting import Admission, checked_strategy, interrupted
from superstep.runtime.flow.node_cache import FactlessCache
from superstep.runtime.flow.retry import Tries
from superstep.runtime.flow.stream_gate import Gate
from superstep.runtime.telemetry.switch import active

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
    from contextlib import AbstractAsyncContextManager

    from langchain_core.runnables import RunnableConfig
    from langgraph.cache.base import BaseCache
    from langgraph.types import StateSnapshot

    from superstep.checkpointer import Delivery, GraphCall, Lease, TransactionalSaver
    from superstep.runtime.faults import GraphChanged, StepConflict, ThreadBusy
    from superstep.runtime.flow.retry import Settings
    from superstep.runtime.flow.stream_gate import Chunk, Shape
    from superstep.runtime.telemetry.runs import RunTrace

__all__ = ["Attempts", "Retried", "with_factless_cache"]


class Retried(Protocol):
    """What a run needs of its flow."""

    settings: Settings
    label: str | None
    version: str | None
    migrate: Callable[[dict[str, Any], str], Any] | None
    cache: BaseCache[Any] | None
    on_conflict: Callable[[StepConflict], None] | None

    async def aget_state(self, config: RunnableConfig) -> StateSnapshot:
        """See LangGraph."""
        ...


_log = logging.getLogger(__name__)
_PLACE = ("thread_id", "checkpoint_id", "checkpoint_ns")


class Attempts:
    """See the module. Whoever drives it opens the stream that `begin` describes, and hands its items to `take`.

    Attributes:
        given: what the next attempt is entered with.
        gate: holds back what is not committed.
        admission: how the call gets its thread if that is being run; `None` leaves it to the settings.
    """

    def __init__(  # long: what one run has to know
        self,
        flow: Retried,
        saver: TransactionalSaver,
        call: GraphCall,
        given: Any,
        config: RunnableConfig | None,
        shape: Shape,
        options: dict[str, Any],
        *,
        whole: bool,
        trial_of: str | None = None,
        delivery: Delivery | None = None,
        strategy: str | None = None,
    ) -> None:
        self.given = given
        self.gate = Gate(shape)
        self._flow = flow
        self._version = graph_version(flow, flow.version)  # type: ignore[arg-type]  # a flow is a graph
        self._lifted = False
        self._saver = saver
        self._first = given
        self._thread_id = str(call.conf["thread_id"])
        self._place = {key: value for key, value in call.conf.items() if key in _PLACE}
        self._config = with_factless_cache(flow, call, config)
        if "checkpoint_ns" in call.conf and call.conf["checkpoint_ns"] is None:
            self._config = _patched(self._config, checkpoint_ns="")
        self._to_latest = call.to_latest
        self._shape = shape
        self._whole = whole
        self._trial_of = trial_of
        self._delivery = delivery
        self._callers_control = options.pop("control", None) or RunControl()
        self._options = _durable(options)
        self._tried = Tries(flow.settings)
        self._spent: set[str] = set()  # names of questions whose answers count no more
        self._before: EarlierAttempt | None = None
        self._lease: Lease | None = None
        self.admission: Admission | None = None
        if strategy := checked_strategy(strategy) or flow.settings.multitask_strategy:
            if isinstance(given, Command) and given.resume is not None and not names_any(given):
                strategy = "reject"  # by the time the thread is free, it may wait for the answer to another question
            self.admission = Admission(saver, self._thread_id, strategy, flow.settings.interrupt_grace)
        self._began = False
        self._key: object = None
        self._status = "unfinished"  # stands for a run that was cancelled, closed early or drained
        self._error: str | None = None
        self._failure: BaseException | None = None
        self._telemetry = active.telemetry
        self._around = None if self._telemetry is None else self._telemetry.around()
        self._trace: RunTrace | None = None

    @property
    def _brings_input(self) -> bool:
        return self.given is not None and not isinstance(self.given, Command)

    @property
    def _takes_over(self) -> bool:
        return self._flow.settings.take_over if self.admission is None else self.admission.takes_over

    async def admit(self, refused: ThreadBusy | None = None) -> None:
        """Before the thread is held: wait for it, or end who runs it. On the saver's loop.

        Args:
            refused: why it could not be held after the last time.

        Raises:
            ThreadBusy: it is being run, and that is to go on; or whoever refused it did so when it had begun.
        """
        if self.admission is None:
            raise AssertionError("nothing was said of how to wait")
        self._status, self._error = "unfinished", None
        again = await self.admission.admit(brings_input=self._brings_input) if not self._began else False
        if refused is not None and not again:
            raise refused

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the thread.

        Raises:
            ThreadBusy: another run of this process is at work on it.
        """
        over = self.admission.over if self.admission is not None else None
        with self._saver.runs.leases.exclusive(self._thread_id, over=over) as self._lease:
            if self.admission is not None:
                self._lease.on_claim = self.admission.has_thread
            yield

    @contextmanager
    def outcome(self) -> Iterator[None]:
        """Note how the run ends."""
        try:
            yield
        except GraphDrained:
            if self._lease is not None and self._lease.stopping and not self._callers_control.drain_requested:
                raise interrupted(self._thread_id) from None
            raise
        except Exception as e:
            self._status, self._error, self._failure = "failed", f"{type(e).__name__}: {e}", e
            raise

    async def enter(self) -> None:
        """Before the first attempt: nobody else holds the thread, and answers are for its questions.

        On the saver's loop. A run that had the thread before and was left is ended, so that it holds nothing any more.
        """
        await self._begin_trace()
        left = self._lease.taken_from if self._lease is not None else None
        if left is not None:
            await self._saver.runs.end(left.key)
        self.given = await self._addressed()

    def begin(self) -> dict[str, Any]:
        """Start an attempt: the arguments to enter LangGraph with, except the input."""
        # A new control each time: what a cancelled attempt leaves running belongs to a run that is over.
        settings = self._flow.settings
        accept = settings.on_stale_answer == "accept"
        run_options = RunOptions(
            self._flow.label,
            accept,
            tells_questions_apart=True,
            take_over=self._takes_over,
            tells_its_end=self._lease is not None,
            after=self._before,
            isolated_as_flow=settings.isolation == "flow",
            trial_of=self._trial_of,
            effects=settings.effects,
            delivery=self._delivery,
            version=self._version,
            resumes=not self._brings_input,
            trace=self._trace,
        )
        lease = self._lease
        stopping = (lambda: lease.stopping) if lease is not None else bool
        self._key = control = AttemptControl(run_options, self._callers_control, stopping)
        if self._lease is not None:
            self._lease.key = control
        self.gate = Gate(self._shape, again=self._tried.conflicts > 0)
        return {
            **self._options,
            "config": self._config,
            "control": control,
            "stream_mode": self._shape.asked,
            "subgraphs": self._shape.subgraphs,
            "version": self._shape.version,
        }

    def awaited(self, chunk: Chunk) -> Coroutine[Any, Any, None] | None:
        """What to wait for, on the saver's loop, before the chunk counts: the commit that it announces."""
        checkpoint_id = self._shape.checkpoint(chunk)
        run = self._saver.runs.find(self._key, self._thread_id) if checkpoint_id is not None else None
        return run.committed("|".join(chunk.ns), checkpoint_id) if run is not None and checkpoint_id else None

    def take(self, chunk: Chunk) -> Iterator[Any]:
        """What may be shown, now that this chunk has come."""
        return self._given_away(self.gate.push(chunk))

    def _given_away(self, items: Iterator[Any]) -> Iterator[Any]:
        return items if self._lease is None or self._whole else _lent(self._lease, items)

    def ended(self) -> Iterator[Any]:
        """The attempt has come to its end: what is left to show.

        Raises:
            StepConflict: a question that it asks was withdrawn.
        """
        run = self._saver.runs.find(self._key, self._thread_id)
        if self.gate.interrupted and run is not None and (drift := run.drift()) is not None:
            raise drift
        yield from self._given_away(self.gate.finish(run.renamed if run is not None else {}))
        self._status = "interrupted" if self.gate.interrupted else "completed"

    def failed(self, conflict: StepConflict) -> float:
        """The attempt ended in a conflict: seconds to wait before the next one.

        Raises:
            ConflictExhausted: there is no next one.
        """
        run = self._saver.runs.find(self._key, self._thread_id)
        if self._trace is not None:
            self._trace.conflict(conflict.tasks, conflict.attempts)
        _log.info("Conflict of thread %s: tried again", self._thread_id, extra=self._told(nodes=conflict.tasks))
        pause = self._tried.after(conflict, progressed=run is not None and run.commits > 0)
        if self._flow.on_conflict is not None:
            self._flow.on_conflict(conflict)
        return pause

    async def rewind(self, pause: float) -> None:
        """Go back to the thread's last commit. On the saver's loop."""
        run = self._saver.runs.find(self._key, self._thread_id)
        if run is not None:
            self._spent |= run.spent
            if run.token is not None:
                self._before = EarlierAttempt(run.token, uuid4())
        await self._saver.runs.end(self._key)
        if not self._saver.runs.turns.keeps(self._thread_id):
            await asyncio.sleep(pause)
        if run is not None and run.moved and self._to_latest:
            # The run has stored something, the fork checkpoint at least: go on from there, not from the checkpoint
            # that the caller addressed.
            self._config = _patched(self._config, **self._to_latest)
            self._to_latest = {}
        self.given = await self._go_on()

    async def lift(self, changed: GraphChanged) -> None:
        """Lift what the thread has left unfinished to this version of the graph, once. On the saver's loop.

        What was asked is asked again, by the new code: an answer of the caller was for another question.

        Raises:
            GraphChanged: it cannot be lifted.
        """
        if self._flow.migrate is None or self._lifted or changed.thread_id != self._thread_id:
            raise changed
        if self._place.get("checkpoint_id"):
            raise changed  # what it goes on from is in the past
        self._lifted = True
        await self._saver.alift(self._thread_id, self._version, self._flow.migrate, take_over=self._takes_over)
        if self._delivery is not None:  # the thread is another than when its question was looked at
            self._delivery = self._delivery._replace(token=None)
        if isinstance(self.given, Command):
            rest = replace(self.given, resume=None)
            self.given = rest if rest.update or rest.goto else None
        self._first = self.given

    async def _go_on(self) -> Any:
        """What to re-enter with: nothing new, except answers to interrupts that are not stored with the thread.

        LangGraph keeps a single answer among the pending writes, but a map of answers only in the run's memory. Those
        whose questions were withdrawn, or that were taken already, are left out, whatever has their names by now.
        """
        if not names_any(self._first):
            return None
        state = await self._flow.aget_state({"configurable": {"thread_id": self._thread_id}})
        withdrawn = await self._saver.awithdrawn(self._thread_id)
        given = {name: answer for name, answer in self._first.resume.items() if name not in self._spent}
        left = for_open_questions(Command(resume=given), state.interrupts, withdrawn)
        return Command(resume=left.resume) if left is not None and left.resume else None

    async def _addressed(self) -> Any:
        """The input, with answers only for questions that are open, under the names that LangGraph has for them."""
        if not isinstance(self._first, Command) or self._first.resume is None:
            return self._first
        state = await self._flow.aget_state({"configurable": self._place})
        if not names_any(self._first):
            return for_people(self._first, state.interrupts)
        if not state.interrupts:
            return self._first
        withdrawn = await self._saver.awithdrawn(self._thread_id)
        return for_open_questions(self._first, state.interrupts, withdrawn)

    async def dismiss(self) -> None:
        """The call is over, begun or not. On the saver's loop."""
        if self.admission is not None:
            await self.admission.leave()

    async def finish(self) -> None:
        """Record how the run ended, and release what it still holds."""
        self._began = self._began or self._saver.runs.find(self._key, self._thread_id) is not None
        try:
            await self._saver.afinish(self._thread_id, self._key, self._status, self._error)
        finally:
            if self._trace is not None:
                self._trace.finish(self._status, self._failure)
            failure = type(self._failure).__qualname__ if self._failure is not None else None
            more = self._told(status=self._status, error=failure)
            _log.info("Run of thread %s: %s", self._thread_id, self._status, extra=more)

    # -- telemetry -------------------------------------------------------------------------------------------------

    async def _begin_trace(self) -> None:
        """A run that goes on from where another has stopped belongs to the trace of that one."""
        if self._telemetry is None or self._around is None:
            return
        resumed = self._first is None or (isinstance(self._first, Command) and self._first.resume is not None)
        before = await self._saver.atraceparent(self._thread_id) if resumed else None
        self._trace = self._telemetry.run(self._around, self._thread_id, self._flow.label, before, resumed=resumed)

    def traced(self, stream: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """The stream of an attempt; with telemetry, what it does belongs to the run's span.

        That of one whose items nobody waits for one by one is taken in `current`.
        """
        return stream if self._trace is None or self._whole else self._trace.inside(stream)

    def current(self) -> AbstractAsyncContextManager[None]:
        """See `traced`."""
        return self._trace.current() if self._trace is not None and self._whole else nullcontext()

    def traced_sync(self, stream: Generator[Any, None, None]) -> Generator[Any, None, None]:
        """As `traced`, for streams that block."""
        return stream if self._trace is None else self._trace.inside_sync(stream)

    def _told(self, **more: Any) -> dict[str, Any]:
        """What structured logs say beside the message."""
        said = {"thread_id": self._thread_id, "graph": self._flow.label, **more}
        return said if self._trace is None else {**said, "trace_id": self._trace.trace_id}


def _lent(lease: Lease, items: Iterator[Any]) -> Iterator[Any]:
    """The items, to a consumer that may not come back after any of them."""
    for item in items:
        lease.wait_for_consumer()
        yield item
        lease.go_on()


def with_factless_cache(flow: Retried, call: GraphCall, config: RunnableConfig | None) -> RunnableConfig:
    """The config, with the graph's node cache kept away from results that rest on facts."""
    if flow.cache is None or CACHE in call.conf:
        return config or {}
    return _patched(config, **{CACHE: FactlessCache(flow.cache)})


def _durable(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with a durability that saves every super-step.

    Not "sync": subgraphs inherit that, and LangGraph fails on it in those without a checkpointer. Waiting at each
    checkpoint event has the same effect. A caller who asks for less durability gets more.
    """
    durability = options.pop("durability", None)
    if options.get("checkpoint_during") is not None:
        # LangGraph's old word for it: LangGraph warns, and refuses both words together.
        return {**options, "checkpoint_during": True, "durability": durability}
    return {**options, "durability": "async"}


def _patched(config: RunnableConfig | None, **more: Any) -> RunnableConfig:
    config = config or {}
    return {**config, "configurable": {**config.get("configurable", {}), **more}}
