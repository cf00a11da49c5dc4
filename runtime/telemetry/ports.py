"""What the spans of runs, super-steps and calls report to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from superstep.runtime.telemetry.careful import Parent
    from superstep.runtime.telemetry.instruments import Instruments

__all__ = ["Receiver", "RunSpan"]


class Receiver(Protocol):
    """Telemetry that is on. See `telemetry.Telemetry`."""

    @property
    def tracer(self) -> Tracer:
        """Makes spans."""
        ...

    def below(self, span: Span) -> Parent:
        """What spans below this one are begun at."""
        ...

    @property
    def instruments(self) -> Instruments | None:
        """What is measured; `None` without metrics."""
        ...

    @property
    def content(self) -> bool:
        """Spans hold prompts, answers and SQL."""
        ...


class RunSpan(Protocol):
    """A run, as its super-steps see it. See `runs.RunTrace`."""

    @property
    def telemetry(self) -> Receiver:
        """What it reports to."""
        ...

    @property
    def thread_id(self) -> str:
        """The thread."""
        ...

    @property
    def span(self) -> Span | None:
        """Its span; `None` for a run of plain LangGraph."""
        ...

    @property
    def context(self) -> Context:
        """In which its span is the current one."""
        ...

    @property
    def around(self) -> Span:
        """The span that was current where it was called."""
        ...

    def parent(self, context: Context) -> Parent:
        """What spans begin at whose parent is the current span of this context."""
        ...

    def measure(self, what: str, seconds: float) -> None:
        """Note how long a super-step or a commit took."""
        ...

    def ended(self, at: tuple[str, str]) -> None:
        """The super-step that began there is over."""
        ...
