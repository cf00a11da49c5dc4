"""Spans and measures kept in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from superstep import telemetry
from tests.support.bank import bank, hold_idle, new_thread, no_failpoints, saver, sync_saver, thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["bank", "hold_idle", "new_thread", "no_failpoints", "saver", "sync_saver", "thread"]


class Spans:
    """The spans that have ended, and how they stand to each other."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))

    @property
    def all(self) -> list[ReadableSpan]:
        """In the order of their beginnings."""
        return sorted(self._kept.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found

    def below(self, span: ReadableSpan) -> list[str]:
        """Names of its children."""
        return [each.name for each in self.all if parent_of(each) == id_of(span)]

    def tree(self) -> list[Any]:
        """Names, each with the list of those below it if there are any."""
        known = {id_of(span) for span in self.all}
        return self._level([span for span in self.all if parent_of(span) not in known])

    def _level(self, spans: list[ReadableSpan]) -> list[Any]:
        level: list[Any] = []
        for span in spans:
            below = [each for each in self.all if parent_of(each) == id_of(span)]
            level.append((span.name, self._level(below)) if below else span.name)
        return level


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def measured(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Points by the name of their metric."""
    data = reader.get_metrics_data()
    found: dict[str, list[Any]] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found[metric.name] = list(metric.data.data_points)
    return found


@pytest.fixture
def measures() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def spans(measures: InMemoryMetricReader) -> Iterator[Spans]:
    """Telemetry is on, without content."""
    kept = Spans()
    telemetry(tracer_provider=kept.provider, meter_provider=MeterProvider([measures]))
    yield kept
    telemetry(traces=False, metrics=False)
