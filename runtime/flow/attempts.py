"""One run of a flow, attempt after attempt: what is the same whether it is driven with an event loop or without."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command

from superstep.checkpointer import CACHE, AttemptControl, EarlierAttempt, RunOptions
from superstep.runtime.flow.answers import for_open_questions, names_any
from superstep.runtime.flow.node_cache import FactlessCache
from superstep.runtime.flow.retry import Tries
from superstep.runtime.flow.stream_gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from langchain_core.runnables import RunnableConfig
    from langgraph.cache.base import BaseCache
    from langgraph.types import StateSnapshot

    from superstep.checkpointer import GraphCall, Lease, TransactionalSaver
    from superstep.runtime.faults import StepConflict
    from superstep.runtime.flow.retry import Settings
    from superstep.runtime.flow.stream_gate import Chunk, Shape

__all__ = ["Attempts", "Retried", "with_factless_cache"]


class Retried(Protocol):
    """What a run needs of its flow."""

    settings: Settings
    label: str | None
    cache: BaseCache[Any] | None
    on_conflict: Callable[[StepConflict], None] | None

    async def aget_state(self, config: RunnableConfig) -> StateSnapshot:
        """See LangGraph."""
        ...


_PLACE = ("thread_id", "checkpoint_id", "checkpoint_ns")


class Attempts:
    """See the module. Whoever drives it opens the stream that `begin` describes, and hands its items to `take`.

    Attributes:
        given: what the next attempt is entered with.
        gate: holds back what is not committed.
    """

    def __init__(
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
    ) -> None:
        self.given = given
        self.gate = Gate(shape)
        self._flow = flow
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
        self._callers_control = options.pop("control", None) or RunControl()
        self._options = _durable(options)
        self._tried = Tries(flow.settings)
        self._spent: set[str] = set()  # names of questions whose answers count no more
        self._before: EarlierAttempt | None = None
        self._lease: Lease | None = None
        self._key: object = None
        self._status = "unfinished"  # stands for a run that was cancelled, closed early or drained
        self._error: str | None = None

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the thread.

        Raises:
            ThreadBusy: another run of this process is at work on it.
        """
        with self._saver.runs.leases.exclusive(self._thread_id) as self._lease:
            yield

    @contextmanager
    def outcome(self) -> Iterator[None]:
        """Note how the run ends."""
        try:
            yield
        except GraphDrained:
            raise
        except Exception as e:
            self._status, self._error = "failed", f"{type(e).__name__}: {e}"
            raise

    async def enter(self) -> None:
        """Before the first attempt: nobody else holds the thread, and answers are for its questions.

        On the saver's loop. A run that had the thread before and was left is ended, so that it holds nothing any more.
        """
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
            take_over=settings.take_over,
            tells_its_end=self._lease is not None,
            after=self._before,
        )
        self._key = control = AttemptControl(run_options, self._callers_control)
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
        await asyncio.sleep(pause)
        if run is not None and run.moved and self._to_latest:
            # The run has stored something, the fork checkpoint at least: go on from there, not from the checkpoint
            # that the caller addressed.
            self._config = _patched(self._config, **self._to_latest)
            self._to_latest = {}
        self.given = await self._go_on()

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
        if not names_any(self._first):
            return self._first
        state = await self._flow.aget_state({"configurable": self._place})
        if not state.interrupts:
            return self._first
        withdrawn = await self._saver.awithdrawn(self._thread_id)
        return for_open_questions(self._first, state.interrupts, withdrawn)

    async def finish(self) -> None:
        """Record how the run ended, and release what it still holds."""
        await self._saver.afinish(self._thread_id, self._key, self._status, self._error)


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
