"""The spans of a run: its super-steps, their tasks, reads and commits. Imports OpenTelemetry.

Who is whose parent is known from what things are, not from where the code happens to run: a super-step of the outermost
graph belongs to the run, one of a subgraph to the task that runs it (or, if that has not used its step, to its
super-step), a task to its super-step, a read to its task. Parallel tasks run in contexts of their own, and each makes
its span the current one there when it first uses its step, so that calls of models and whatever else a node does belong
to it. A span that the application itself has opened in a task stays the current one, and what it does is below that.

A conflict is no error: the super-step is tried again, and its span lasts until it is committed or the run ends. Neither
is a pause. Of errors the type is told and never the text, which may quote values.
"""

from __future__ import annotations

import threading
import time
from contextlib import aclosing, closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from superstep.runtime.faults import ConflictExhausted, StepConflict
from superstep.runtime.telemetry import names
from superstep.runtime.telemetry.careful import end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from superstep.runtime.telemetry.ports import Receiver

__all__ = ["HOLDER", "RunTrace", "StepTrace", "TaskTrace", "end_as", "traceparent_of"]

T = TypeVar("T")

HOLDER = context.create_key("superstep-span")  # in a context: which of ours has made its span the current one there
_FAILED = Status(StatusCode.ERROR)


class RunTrace:
    """One run of a flow, all attempts.

    Attributes:
        telemetry: what it reports to.
        thread_id: the thread.
        graph: name of the graph.
        span: its span; `None` for a run of plain LangGraph.
        context: in which its span is the current one.
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
        self.context = around if span is None else _holding(self, span, around)
        self.traceparent = anchor or traceparent_of(trace.get_current_span(self.context))
        self.around = trace.get_current_span(around)
        self._steps: dict[tuple[str, str], StepTrace] = {}
        self._lock = threading.Lock()
        self._began = time.perf_counter()

    @property
    def trace_id(self) -> str | None:
        """The trace in hexadecimal, for logs."""
        found = trace.get_current_span(self.context).get_span_context()
        return trace.format_trace_id(found.trace_id) if found.is_valid else None

    # -- what is current ------------------------------------------------------------------------------------------

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

    def step(self, at: tuple[str, str], above: Mapping[str, str], ms: float) -> StepTrace:
        """The super-step that began at a checkpoint of a namespace.

        Args:
            at: namespace and checkpoint.
            above: for each graph around, the checkpoint that its running super-step began at.
            ms: milliseconds since it began, if this is the first that is heard of it.
        """
        found = self._steps.get(at)
        if found is None:
            parent = self._above(at[0], above)
            with self._lock:
                found = self._steps.get(at)
                if found is None:
                    found = self._steps[at] = StepTrace(self, at, parent, ms)
        return found

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
        return self.step((nearest, above[nearest]), outer, 0.0).context

    def ended(self, step: StepTrace) -> None:
        """A super-step is over."""
        self._steps.pop(step.at, None)

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
        if self.span is None:
            return
        self.span.set_attribute(names.STATUS, status)
        if status == "interrupted":
            self.span.add_event(names.INTERRUPT_EVENT)
        if failure is not None:
            end_as(self.span, failure)
        else:
            end(self.span)
        self.measure("runs", time.perf_counter() - self._began, {names.STATUS: status})

    def measure(self, what: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Note a value of an instrument of that name."""
        if (instruments := self.telemetry.instruments) is not None:
            getattr(instruments, what).record(value, {names.WORKFLOW: self.graph or "", **(labels or {})})

    def count(self, what: str, more: int) -> None:
        """Add to a counter of that name."""
        if more and (instruments := self.telemetry.instruments) is not None:
            getattr(instruments, what).add(more, {names.WORKFLOW: self.graph or ""})


class StepTrace:
    """One super-step, all attempts.

    Attributes:
        run: its run.
        at: namespace and checkpoint that it began at.
        span: its span.
        context: in which that is the current one.
    """

    __slots__ = ("_began", "_nodes", "_tasks", "at", "context", "run", "span")

    def __init__(self, run: RunTrace, at: tuple[str, str], parent: Context, ms: float) -> None:
        self.run = run
        self.at = at
        self._began = time.perf_counter() - ms / 1000
        attributes = {names.CONVERSATION: run.thread_id, names.NAMESPACE: _named(at[0])}
        began = time.time_ns() - int(ms * 1e6)
        self.span = run.telemetry.tracer.start_span(names.STEP_SPAN, parent, attributes=attributes, start_time=began)
        self.context = _holding(self, self.span, parent)
        self._tasks: dict[str, TaskTrace] = {}
        self._nodes: set[str] = set()

    def task(self, task_id: str, node: str, number: int) -> TaskTrace:
        """A new execution of a task. One before it that has not ended counts for nothing."""
        if (before := self._tasks.get(task_id)) is not None:
            before.end("superseded")
        self._nodes.add(node)
        made = self._tasks[task_id] = TaskTrace(self, node, number)
        return made

    def task_ended(self, task_id: str, outcome: str, failure: object = None) -> None:
        """A task is done: "finished", "interrupted" or "failed"."""
        if (task := self._tasks.pop(task_id, None)) is not None:
            task.end(outcome, failure)
        if self.run.span is None and outcome != "finished":
            self.leave(outcome)  # nobody will say that the run is over

    @contextmanager
    def commit(self) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Its reads are validated and its staged writes are applied meanwhile. Yields what takes attributes."""
        span = self.run.telemetry.tracer.start_span(names.COMMIT_SPAN, self.context)
        began = time.perf_counter()
        try:
            yield span.set_attributes
        except BaseException as error:
            end_as(span, error)
            raise
        end(span)
        self.run.measure("commits", time.perf_counter() - began)

    def committed(self, nodes: Sequence[str], said: Mapping[str, Any]) -> None:
        """It is committed. `said`: attributes of its span."""
        for task in list(self._tasks.values()):
            task.end("finished")
        self._end("committed", nodes, said)
        self.run.measure("steps", time.perf_counter() - self._began)

    def leave(self, outcome: str) -> None:
        """The run ends, and it is not committed."""
        for task in list(self._tasks.values()):
            task.end(outcome)
        if outcome == "failed":
            self.span.set_status(_FAILED)
        self._end(outcome, sorted(self._nodes), {})

    def _end(self, outcome: str, nodes: Sequence[str], said: Mapping[str, Any]) -> None:
        if self.span.is_recording():
            self.span.update_name(" ".join([names.STEP_SPAN, ", ".join(nodes)]).rstrip())
            self.span.set_attributes({names.NODES: list(nodes), names.OUTCOME: outcome, **said})
        end(self.span)
        self.run.ended(self)


class TaskTrace:
    """One execution of a task, from its first use of its step on.

    Attributes:
        step: its super-step.
        span: its span.
        context: in which that is the current one.
    """

    __slots__ = ("_ended", "context", "span", "step")

    def __init__(self, step: StepTrace, node: str, number: int) -> None:
        self.step = step
        attributes: dict[str, Any] = {names.NODE: node, names.EXECUTION: number}
        self.span = step.run.telemetry.tracer.start_span(
            f"{names.TASK_SPAN} {node}", step.context, attributes=attributes
        )
        self.context = _holding(self, self.span, step.context)
        self._ended = False

    def make_current(self) -> None:
        """Have what the calling code does from here on belong to this, unless it is in a span of the application."""
        current = context.get_current()
        holder: Any = current.get(HOLDER)
        if holder is self:
            return
        ours = self.step.run.around if holder is None else holder.span
        if trace.get_current_span(current) is ours:
            context.attach(self.context)

    def read(
        self, sql: str, validate: bool, work: Callable[[], Coroutine[Any, Any, list[T]]]
    ) -> Coroutine[Any, Any, list[T]]:
        """The read that `work` begins, in a span of its own."""
        current = context.get_current()
        return self._read(current if current.get(HOLDER) is self else self.context, sql, validate, work)

    async def _read(
        self, parent: Context, sql: str, validate: bool, work: Callable[[], Coroutine[Any, Any, list[T]]]
    ) -> list[T]:
        telemetry = self.step.run.telemetry
        attributes: dict[str, Any] = {names.DATABASE: "postgresql", names.VERB: _verb(sql), names.VALIDATED: validate}
        if telemetry.content:
            attributes[names.STATEMENT] = sql
        span = telemetry.tracer.start_span(names.READ_SPAN, parent, SpanKind.CLIENT, attributes)
        try:
            rows = await work()
        except BaseException as error:
            end_as(span, error)
            raise
        span.set_attribute(names.ROWS, len(rows))
        end(span)
        return rows

    def called(self, model: str | None, read: int, written: int, began: float) -> None:
        """A model of LangChain's own, which is not routed, has answered.

        Args:
            model: as LangChain names it.
            read: tokens sent, as far as they were counted.
            written: tokens received.
            began: when, by `time.perf_counter`.
        """
        run, took = self.step.run, time.perf_counter() - began
        labels = {names.OPERATION: names.CHAT, names.RESPONSE_MODEL: model or ""}
        attributes: dict[str, Any] = {
            **labels,
            names.CONVERSATION: run.thread_id,
            names.INPUT_TOKENS: read,
            names.OUTPUT_TOKENS: written,
        }
        title = f"{names.CHAT} {model}" if model else names.CHAT
        start = time.time_ns() - int(took * 1e9)
        span = run.telemetry.tracer.start_span(title, self.context, SpanKind.CLIENT, attributes, start_time=start)
        end(span)
        if (instruments := run.telemetry.instruments) is not None:
            instruments.calls.record(took, labels)
            instruments.count_tokens(read, written, labels)

    def reused(self) -> None:
        """An answer of a model was served again."""
        self.span.add_event(names.REUSED_EVENT)

    def end(self, outcome: str, failure: object = None) -> None:
        """It is over, whatever becomes of its result."""
        if self._ended:
            return
        self._ended = True
        self.span.set_attribute(names.OUTCOME, outcome)
        if outcome == "interrupted":
            self.span.add_event(names.INTERRUPT_EVENT)
        if isinstance(failure, BaseException):
            end_as(self.span, failure)
        else:
            end(self.span)


def end_as(span: Span, failure: BaseException) -> None:
    """End a span whose work has raised. A conflict and a cancellation are no errors."""
    if isinstance(failure, StepConflict) and not isinstance(failure, ConflictExhausted):
        span.set_attribute(names.OUTCOME, "conflict")
    elif not isinstance(failure, Exception):
        span.set_attribute(names.OUTCOME, "cancelled")
    else:
        span.set_attribute(names.ERROR, type(failure).__qualname__)
        if isinstance(sqlstate := getattr(failure, "sqlstate", None), str):
            span.set_attribute(names.SQLSTATE, sqlstate)
        span.set_status(_FAILED)
    end(span)


def _holding(holder: object, span: Span, around: Context) -> Context:
    return context.set_value(HOLDER, holder, trace.set_span_in_context(span, around))


def traceparent_of(span: Span) -> str | None:
    """What names a span to other processes (W3C Trace Context); `None` of none."""
    found = span.get_span_context()
    if not found.is_valid:
        return None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def _verb(sql: str) -> str:
    word = sql.lstrip()[:12].partition(" ")[0].partition("\n")[0]
    return word.upper() if word.isalpha() else "other"


def _named(ns: str) -> str:
    """A namespace without the ids of tasks, so that it has few values."""
    return "|".join(part.partition(":")[0] for part in ns.split("|")) if ns else ""
