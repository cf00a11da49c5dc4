"""Spans whose loss changes nothing else: what a processor, a sampler or an exporter raises stays here.

OpenTelemetry's SDK keeps the errors of its own exporters to itself, but those of processors and samplers come out of
`start_span` and `end`: of a read, or of a super-step that has just been committed. They are logged by class, once each,
and the span is missing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import INVALID_SPAN, Tracer

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["CarefulTracer", "end"]

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

    def start_as_current_span(self, *args: Any, **more: Any) -> Any:
        """See OpenTelemetry. Not used here."""
        return self._tracer.start_as_current_span(*args, **more)


def end(span: Span) -> None:
    """End a span."""
    try:
        span.end()
    except Exception as error:  # noqa: BLE001 - of whatever the application has configured
        _say("end", error)


def _say(what: str, error: Exception) -> None:
    if (what, type(error)) not in _said:
        _said.add((what, type(error)))
        _log.warning("Spans cannot %s: %s. Look at OpenTelemetry's processors.", what, type(error).__qualname__)
