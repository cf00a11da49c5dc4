"""Turning telemetry on, and the one attribute that everything else looks at.

Spans and measures go to the providers of OpenTelemetry that the application has configured; without any they go
nowhere. A provider that is set later is used from then on. Safe to call from any thread.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from superstep.runtime.telemetry.telemetry import Telemetry

__all__ = ["active", "missing", "telemetry"]


class Switch:
    """Attributes: `telemetry`, what runs and calls report to; `None` while it is off."""

    __slots__ = ("telemetry",)

    def __init__(self) -> None:
        self.telemetry: Telemetry | None = None

    def traceparent(self) -> str | None:
        """What names the span that is current here, for a run that is to belong to it, in whatever process."""
        return self.telemetry.traceparent() if self.telemetry is not None else None

    def within(self, traceparent: str | None) -> AbstractContextManager[None]:
        """What is done meanwhile belongs to the span that this names."""
        if self.telemetry is None or traceparent is None:
            return nullcontext()
        return self.telemetry.within(traceparent)


active = Switch()


def telemetry(
    *,
    traces: bool = True,
    metrics: bool = True,
    content: bool = False,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Turn telemetry on for runs that begin from now on, or off with `traces=False, metrics=False`.

    Args:
        traces: one trace for a run: super-steps, tasks, reads, commits, calls of models, and the runs that resume it.
        metrics: durations, tokens, conflicts.
        content: also put what was sent to models and what they answered, and the text of SQL statements, into spans.
            These hold prompts and may hold data of persons: see docs/security.md.
        tracer_provider: where spans go, instead of to the global provider.
        meter_provider: where measures go, likewise.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if not (traces or metrics):
        active.telemetry = None
        return
    try:
        from superstep.runtime.telemetry.telemetry import Telemetry
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise missing() from None
    active.telemetry = Telemetry(tracer_provider, meter_provider, traces=traces, metered=metrics, content=content)


def missing(package: str = "superstep-runtime[otel]") -> ConfigError:
    """The error for what telemetry needs and is not installed."""
    return ConfigError(f"Telemetry is on, but OpenTelemetry is not installed: pip install '{package}'.")
