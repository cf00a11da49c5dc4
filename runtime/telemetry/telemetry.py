"""What runs and calls of models report to while telemetry is on. Imports OpenTelemetry."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from opentelemetry import context, metrics, trace
from opentelemetry.trace import Link, NoOpTracer, ProxyTracer, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from superstep.runtime.telemetry import names
from superstep.runtime.telemetry.calls import CallTrace
from superstep.runtime.telemetry.careful import CarefulTracer
from superstep.runtime.telemetry.instruments import Instruments
from superstep.runtime.telemetry.runs import RunTrace
from superstep.runtime.telemetry.spans import traceparent_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from superstep.runtime.telemetry.careful import Parent

__all__ = ["Telemetry"]

_SCOPE = "superstep"
_PROPAGATOR = TraceContextTextMapPropagator()


class Telemetry:
    """See `switch.telemetry`.

    Attributes:
        tracer: makes spans; without traces, ones that nobody sees.
        instruments: what is measured; `None` without metrics.
        content: spans hold prompts, answers and SQL.
    """

    def __init__(
        self,
        spans: TracerProvider | None = None,
        meters: MeterProvider | None = None,
        *,
        traces: bool,
        metered: bool,
        content: bool,
    ) -> None:
        self._release = _version()
        self._spans = spans
        self._tracer: Tracer | None = None if traces else NoOpTracer()
        self.instruments = Instruments(metrics.get_meter(_SCOPE, self._release, meters)) if metered else None
        self.content = content

    @property
    def tracer(self) -> Tracer:
        """Asked anew until the application has set its provider."""
        if self._tracer is not None:
            return self._tracer
        found = trace.get_tracer(_SCOPE, self._release, self._spans)
        if isinstance(found, ProxyTracer):
            return found
        self._tracer = CarefulTracer(_lightened(found, self._release))
        return self._tracer

    def below(self, span: Span) -> Parent:
        """What spans below this one are begun at; see `careful.begin`."""
        tracer = self.tracer
        return tracer.below(span) if isinstance(tracer, CarefulTracer) else span

    def around(self) -> Context:
        """What is current where this is called."""
        return context.get_current()

    def traceparent(self) -> str | None:
        """What names the span that is current where this is called."""
        return traceparent_of(trace.get_current_span())

    @contextmanager
    def within(self, traceparent: str) -> Iterator[None]:
        """What is done meanwhile belongs to the span that this names, if it names one."""
        token = context.attach(_remote(traceparent) or context.get_current())
        try:
            yield
        finally:
            context.detach(token)

    def run(self, around: Context, thread_id: str, graph: str | None, before: str | None, *, resumed: bool) -> RunTrace:
        """A run of a flow begins here.

        It is a child of the span that is current, such as that of a request. Without one, a run that resumes another
        belongs to the trace of that one; with one, it has a link to it.

        Args:
            around: what was current where it was called.
            thread_id: its thread.
            graph: name of its graph.
            before: the traceparent of the run that it resumes, if that is known.
            resumed: it goes on from where another run has stopped.
        """
        attributes: dict[str, Any] = {
            names.OPERATION: names.RUN,
            names.CONVERSATION: thread_id,
            names.RESUMED: resumed,
            **({names.WORKFLOW: graph} if graph else {}),
        }
        earlier = _remote(before)
        links: list[Link] = []
        parent, anchor = around, None
        if earlier is not None:
            if trace.get_current_span(around).get_span_context().is_valid:
                links = [Link(trace.get_current_span(earlier).get_span_context())]
            else:
                parent, anchor = earlier, before
        title = f"{names.RUN} {graph}" if graph else names.RUN
        span = self.tracer.start_span(title, parent, SpanKind.INTERNAL, attributes, links)
        return RunTrace(self, thread_id, graph, span, around, anchor)

    def loose_run(self, thread_id: str, graph: str | None) -> RunTrace:
        """A run of plain LangGraph, which never says that it is over: its super-steps are what there is of it."""
        around = context.get_current()
        return RunTrace(self, thread_id, graph, None, around, None)

    def call(self, route: str) -> CallTrace:
        """A call of a model begins here."""
        return CallTrace(self, route)


def _lightened(tracer: Tracer, release: str) -> Tracer:
    """One that makes light spans, if the application has loaded the SDK and that has all they are made of."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return tracer
    try:
        from superstep.runtime.telemetry.light import lightened
    except ImportError:
        return tracer
    return lightened(tracer, _SCOPE, release)


def _remote(traceparent: str | None) -> Context | None:
    """The span that a traceparent names, as a parent; `None` if it names none."""
    if traceparent is None:
        return None
    found = _PROPAGATOR.extract({"traceparent": traceparent}, context.Context())
    return found if trace.get_current_span(found).get_span_context().is_valid else None


def _version() -> str:
    try:
        return version("superstep-runtime")
    except PackageNotFoundError:
        return "0"
