"""What the spans of runs and calls report to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from superstep.runtime.telemetry.instruments import Instruments

__all__ = ["Receiver"]


class Receiver(Protocol):
    """Telemetry that is on. See `telemetry.Telemetry`."""

    @property
    def tracer(self) -> Tracer:
        """Makes spans."""
        ...

    @property
    def instruments(self) -> Instruments | None:
        """What is measured; `None` without metrics."""
        ...

    @property
    def content(self) -> bool:
        """Spans hold prompts, answers and SQL."""
        ...
