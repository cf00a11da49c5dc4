"""Spans whose loss changes nothing else: what a processor, a sampler or an exporter raises stays here.

OpenTelemetry's SDK keeps the errors of its own exporters to itself, but those of processors and samplers come out of
`start_span` and `end`: of a read, or of a super-step that has just been committed. They are logged by class, once each,
and the span is missing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.trace import INVALID_SPAN, SpanKind, Tracer

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AnyValue

__all__ = ["CarefulTracer", "Parent", "begin", "end"]

Parent: TypeAlias = Any  # a span, or the `Above` of one (light.py), which cannot be named without the SDK

_log = logging.getLogger("superstep.telemetry")
_said: set[tuple[str, type]] = set()


class CarefulTracer(Tracer):
    """A tracer whose spans begin, or are missing."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(self, *args: Any, **more: Any) -> Span:
        """See OpenTelemetry."""
        try:
            return self._tracer.start_span(*args, **more)
        except Exception as error:  # noqa: BLE001 - of whatever the application has configured
            _say("begin", error)
            return INVALID_SPAN

    def below(self, span: Span) -> Parent:
        """What spans below this one are begun at; see `begin`."""
        light = getattr(self._tracer, "below", None)  # see light.py
        return (light(span) if light is not None else None) or span

    def start_as_current_span(self, *args: Any, **more: Any) -> Any:
        """See OpenTelemetry. Not used here."""
        return self._tracer.start_as_current_span(*args, **more)


def begin(
    tracer: Tracer,
    above: Parent,
    name: str,
    context: Context,
    attributes: dict[str, AnyValue],
    kind: SpanKind = SpanKind.INTERNAL,
    began: int | None = None,
) -> Span:
    """Begin a span below one of ours.

    Args:
        tracer: a careful one.
        above: the span above, or what the tracer has in its place.
        name: of what is done.
        context: one in which the span above is the current one.
        attributes: few, of plain values: texts, numbers and tuples of texts. They are the span's from here on.
        kind: as in OpenTelemetry.
        began: nanoseconds since 1970; now, if `None`.
    """
    child = getattr(above, "light_child", None)  # see light.py
    if child is None:
        return tracer.start_span(name, context, kind, attributes, start_time=began)
    try:
        return child(name, context, attributes, kind, began)  # type: ignore[no-any-return]
    except Exception as error:  # noqa: BLE001 - of whatever the application has configured
        _say("begin", error)
        return INVALID_SPAN


def end(span: Span, said: dict[str, AnyValue] | None = None, name: str | None = None) -> None:
    """End a span.

    Args:
        span: one of ours.
        said: attributes that it ends with: few, of plain values.
        name: its name from here on.
    """
    try:
        if said is not None and (light := getattr(span, "light_end", None)) is not None:  # see light.py
            light(said, name)
            return
        if said and span.is_recording():
            span.set_attributes(said)
            if name is not None:
                span.update_name(name)
        span.end()
    except Exception as error:  # noqa: BLE001 - of whatever the application has configured
        _say("end", error)


def _say(what: str, error: Exception) -> None:
    if (what, type(error)) not in _said:
        _said.add((what, type(error)))
        _log.warning("Spans cannot %s: %s. Look at OpenTelemetry's processors.", what, type(error).__qualname__)
