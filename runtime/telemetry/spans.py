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

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from superstep.runtime.faults import ConflictExhausted, StepConflict
from superstep.runtime.telemetry import names
from superstep.runtime.telemetry.careful import begin, end

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from opentelemetry.trace import Span

    from superstep.runtime.telemetry.beginning import Beginning
    from superstep.runtime.telemetry.ports import RunSpan


__all__ = [
    "HOLDER",
    "StepTrace",
    "TaskTrace",
    "about",
    "end_as",
    "holding",
    "titled",
    "traceparent_of",
]

T = TypeVar("T")

HOLDER = context.create_key("superstep-span")  # in a context: which of ours has made its span the current one there
_FAILED = Status(StatusCode.ERROR)
_KEYS = list(trace.set_span_in_context(trace.INVALID_SPAN, Context()))
_SPAN = _KEYS[0] if len(_KEYS) == 1 else None  # what a context has the current span under


class StepTrace:
    """One super-step, all attempts.

    Attributes:
        run: its run.
        at: namespace and checkpoint that it began at.
        span: its span.
        context: in which that is the current one.
    """

    __slots__ = ("_began", "_nodes", "_tasks", "at", "context", "run", "span")

    def __init__(self, run: RunSpan, at: tuple[str, str], parent: Context, began: Beginning) -> None:
        self.run = run
        self.at = at
        self._began = began
        said = about(run, at)
        self.span = begin(run.telemetry.tracer, run.parent(parent), names.STEP_SPAN, parent, said, began=began.at)
        self.context = _current(self, self.span, parent)
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

    def commit(self, began: Beginning, said: dict[str, Any], failure: BaseException | None = None) -> None:
        """Its reads were validated and its staged writes applied, or this has failed.

        Args:
            began: when.
            said: attributes of the span. They are the span's from here on.
            failure: what was raised.
        """
        span = begin(self.run.telemetry.tracer, self.span, names.COMMIT_SPAN, self.context, said, began=began.at)
        if failure is not None:
            end_as(span, failure)
            return
        end(span)
        self.run.measure("commits", began.seconds())

    def committed(self, nodes: Sequence[str], said: Mapping[str, Any]) -> None:
        """It is committed. `said`: attributes of its span."""
        for task in list(self._tasks.values()):
            task.end("finished")
        self._end("committed", nodes, said)
        self.run.measure("steps", self._began.seconds())

    def leave(self, outcome: str) -> None:
        """The run ends, and it is not committed."""
        for task in list(self._tasks.values()):
            task.end(outcome)
        if outcome == "failed":
            self.span.set_status(_FAILED)
        self._end(outcome, sorted(self._nodes), {})

    def _end(self, outcome: str, nodes: Sequence[str], said: Mapping[str, Any]) -> None:
        end(self.span, {names.NODES: tuple(nodes), names.OUTCOME: outcome, **said}, titled(nodes))
        self.context = self.run.context  # its own holds this: neither would be freed with the super-step
        self.run.ended(self.at)


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
        name = f"{names.TASK_SPAN} {node}"
        self.span = begin(step.run.telemetry.tracer, step.span, name, step.context, attributes)
        self.context = _current(self, self.span, step.context)
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
        began = time.time_ns()
        said: dict[str, Any] = {names.DATABASE: "postgresql", names.VERB: _verb(sql), names.VALIDATED: validate}
        try:
            rows = await work()
        except BaseException as error:
            end_as(self._read_span(parent, sql, said, began), error)
            raise
        said[names.ROWS] = len(rows)
        end(self._read_span(parent, sql, said, began))
        return rows

    def _read_span(self, parent: Context, sql: str, said: dict[str, Any], began: int) -> Span:
        telemetry = self.step.run.telemetry
        if telemetry.content:
            said[names.STATEMENT] = sql
        above = self.span if parent is self.context else trace.get_current_span(parent)
        return begin(telemetry.tracer, above, names.READ_SPAN, parent, said, SpanKind.CLIENT, began)

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
        if outcome == "interrupted":
            self.span.add_event(names.INTERRUPT_EVENT)
        if isinstance(failure, BaseException):
            self.span.set_attribute(names.OUTCOME, outcome)
            end_as(self.span, failure)
        else:
            end(self.span, {names.OUTCOME: outcome})
        self.context = self.step.context  # as in `StepTrace`


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


def holding(holder: object, around: Context) -> Context:
    """A context that tells whose span is the current one in it: one of ours."""
    return context.set_value(HOLDER, holder, around)


def traceparent_of(span: Span) -> str | None:
    """What names a span to other processes (W3C Trace Context); `None` of none."""
    found = span.get_span_context()
    if not found.is_valid:
        return None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def _current(holder: StepTrace | TaskTrace, span: Span, around: Context) -> Context:
    """A context in which the span of one of ours is the current one."""
    if _SPAN is None:
        return holding(holder, trace.set_span_in_context(span, around))
    return Context({**around, _SPAN: span, HOLDER: holder})  # two keys, and one copy


@lru_cache(maxsize=1024)
def _verb(sql: str) -> str:
    word = sql.lstrip()[:12].partition(" ")[0].partition("\n")[0]
    return word.upper() if word.isalpha() else "other"


def about(run: RunSpan, at: tuple[str, str]) -> dict[str, Any]:
    """Attributes of the span of the super-step that began there."""
    return {names.CONVERSATION: run.thread_id, names.NAMESPACE: _named(at[0])}


def titled(nodes: Sequence[str]) -> str:
    """The name of the span of a super-step."""
    return f"{names.STEP_SPAN} {', '.join(nodes)}" if nodes else names.STEP_SPAN


def _named(ns: str) -> str:
    """A namespace without the ids of tasks, so that it has few values."""
    return "|".join(part.partition(":")[0] for part in ns.split("|")) if ns else ""
