"""The spans and measures of one run of a flow. Imports OpenTelemetry."""

from __future__ import annotations

import threading
import time
from contextlib import aclosing, asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import context, trace

from superstep.runtime.telemetry import names
from superstep.runtime.telemetry.beginning import Beginning
from superstep.runtime.telemetry.careful import begin, end
from superstep.runtime.telemetry.instruments import Batch
from superstep.runtime.telemetry.spans import (
    HOLDER,
    StepTrace,
    TaskTrace,
    about,
    end_as,
    holding,
    titled,
    traceparent_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from superstep.runtime.telemetry.careful import Parent
    from superstep.runtime.telemetry.ports import Receiver

__all__ = ["RunTrace"]

T = TypeVar("T")


class RunTrace:
    """One run of a flow, all attempts.

    Attributes:
        telemetry: what it reports to.
        thread_id: the thread.
        graph: name of the graph.
        span: its span; `None` for a run of plain LangGraph.
        context: in which its span is the current one, and tells that it is this run's while that lasts.
        traceparent: of the run that began the trace, or of this one: what is kept with the thread.
    """

    def __init__(
        self,
        telemetry: Receiver,
        thread_id: str,
        graph: str | None,
        span: Span | None,
        around: Context,
        anchor: str | None,
    ) -> None:
        self.telemetry = telemetry
        self.thread_id = thread_id
        self.graph = graph
        self.span = span
        self._bare = around if span is None else trace.set_span_in_context(span, around)
        self.context = around if span is None else holding(self, self._bare)
        self._parent = telemetry.below(trace.get_current_span(self.context))
        self.traceparent = anchor or traceparent_of(trace.get_current_span(self.context))
        self.around = trace.get_current_span(around)
        self._steps: dict[tuple[str, str], StepTrace] = {}
        self._is_over = False  # a commit whose run was cancelled may end later
        self._lock = threading.Lock()
        self._began = time.perf_counter()
        labels = {names.WORKFLOW: graph or ""}
        self._batch = Batch(telemetry.instruments, labels, self._bare) if telemetry.instruments is not None else None

    @property
    def trace_id(self) -> str | None:
        """The trace in hexadecimal, for logs."""
        found = trace.get_current_span(self.context).get_span_context()
        return trace.format_trace_id(found.trace_id) if found.is_valid else None

    # -- what is current ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def current(self) -> AsyncIterator[None]:
        """Have its span be the current one: where whoever takes a stream does nothing of its own until its end."""
        token = context.attach(self.context)
        try:
            yield
        finally:
            context.detach(token)

    async def inside(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The items of a stream, each waited for with the run's span as the current one. Closes it."""
        async with aclosing(items):
            while True:
                token = context.attach(self.context)
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                finally:
                    context.detach(token)
                yield item

    def inside_sync(self, items: Generator[T, None, None]) -> Generator[T, None, None]:
        """As `inside`, for streams that block."""
        with closing(items):
            while True:
                token = context.attach(self.context)
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    context.detach(token)
                yield item

    # -- super-steps ----------------------------------------------------------------------------------------------

    def step(self, at: tuple[str, str], above: Mapping[str, str], began: Beginning | None = None) -> StepTrace:
        """The super-step that began at a checkpoint of a namespace.

        Args:
            at: namespace and checkpoint.
            above: for each graph around, the checkpoint that its running super-step began at.
            began: for when this is the first that is heard of it; now, if `None`.
        """
        found = self._steps.get(at)
        if found is None:
            parent = self._above(at[0], above)
            with self._lock:
                found = self._steps.get(at)
                if found is None:
                    found = self._steps[at] = StepTrace(self, at, parent, began or Beginning.ago())
        return found

    def parent(self, context: Context) -> Parent:
        """What spans begin at whose parent is the current span of this context."""
        return self._parent if context is self.context else trace.get_current_span(context)

    def passed(self, at: tuple[str, str], began: Beginning, nodes: Sequence[str], said: dict[str, Any]) -> None:
        """A super-step of the outermost graph is committed of which nothing was heard before.

        See `step` and `StepTrace.committed`.
        """
        if (found := self._steps.get(at)) is not None:
            found.committed(nodes, said)
            return
        attributes = {**about(self, at), names.NODES: tuple(nodes), names.OUTCOME: "committed", **said}
        tracer = self.telemetry.tracer
        end(begin(tracer, self._parent, titled(nodes), self.context, attributes, began=began.at))
        self.measure("steps", began.seconds())

    def known(self, at: tuple[str, str]) -> StepTrace | None:
        """The super-step, if it has a span already."""
        return self._steps.get(at)

    def _above(self, ns: str, above: Mapping[str, str]) -> Context:
        if not ns:
            return self.context
        current = context.get_current()
        holder = current.get(HOLDER)
        if isinstance(holder, TaskTrace) and above.get(holder.step.at[0]) == holder.step.at[1]:
            return current
        around = [each for each in above if each != ns]
        if not around:
            return self.context
        nearest = max(around, key=len)
        outer = {each: id_ for each, id_ in above.items() if each != nearest and len(each) < len(nearest)}
        return self.step((nearest, above[nearest]), outer).context

    def ended(self, at: tuple[str, str]) -> None:
        """The super-step that began there is over."""
        self._steps.pop(at, None)

    # -- how it goes ----------------------------------------------------------------------------------------------

    def conflict(self, nodes: Sequence[str], attempts: int) -> None:
        """A super-step could not commit, and is tried again."""
        if self.span is not None:
            self.span.add_event(names.CONFLICT_EVENT, {names.NODES: list(nodes), names.ATTEMPTS: attempts})
        self.count("conflicts", 1)

    def finish(self, status: str, failure: BaseException | None) -> None:
        """The run is over: "completed", "interrupted", "failed", or "unfinished" if it was cancelled or left."""
        for step in list(self._steps.values()):
            step.leave(status)
        self._is_over = True
        self.context = self._bare  # the other holds this: neither would be freed with the run
        if self.span is None:
            return
        self.span.set_attribute(names.STATUS, status)
        if status == "interrupted":
            self.span.add_event(names.INTERRUPT_EVENT)
        if failure is not None:
            end_as(self.span, failure)
        else:
            end(self.span)
        if self._batch is not None:
            self._batch.note()
            self._batch.run(time.perf_counter() - self._began, status)

    def measure(self, what: str, seconds: float) -> None:
        """Note how long a super-step or a commit took.

        Args:
            what: "steps" or "commits".
            seconds: as said.
        """
        if self._batch is not None:
            self._batch.add(what, seconds)
            if self.span is None or self._is_over:
                self._batch.note()  # nobody will say that the run is over

    def count(self, what: str, more: int) -> None:
        """Add to a counter of that name."""
        if more and (instruments := self.telemetry.instruments) is not None:
            getattr(instruments, what).add(more, {names.WORKFLOW: self.graph or ""})
