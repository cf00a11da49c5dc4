"""OpenTelemetry's SDK for the command line, as the standard variables say. A program of one's own configures its own.

`OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` name exporters (`otlp` if nothing is said, `console`, `none`), the
SDK itself reads the others: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
`OTEL_EXPORTER_OTLP_ENDPOINT`, … A provider that is set already, as by `opentelemetry-instrument`, is left alone.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["configure_sdk"]

_TRACES, _METRICS = "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"
_GROUPS = {_TRACES: "opentelemetry_traces_exporter", _METRICS: "opentelemetry_metrics_exporter"}


def configure_sdk(*, traces: bool, metered: bool) -> Callable[[], None]:
    """Set the providers of the process.

    Args:
        traces: spans are wanted.
        metered: measures are wanted.

    Returns:
        What sends the last of them out. To be called when all is done.

    Raises:
        ConfigError: an exporter is not installed.
    """
    ends: list[Callable[[], Any]] = []
    if traces and not isinstance(trace.get_tracer_provider(), TracerProvider):
        spans = TracerProvider()
        for name in _named(_TRACES):
            if name == "console":
                spans.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
            else:
                spans.add_span_processor(BatchSpanProcessor(_exporter(_TRACES, name)()))
        trace.set_tracer_provider(spans)
        ends.append(spans.shutdown)
    if metered and not isinstance(metrics.get_meter_provider(), MeterProvider):
        readers = [
            PeriodicExportingMetricReader(
                ConsoleMetricExporter(out=sys.stderr) if name == "console" else _exporter(_METRICS, name)()
            )
            for name in _named(_METRICS)
        ]
        meters = MeterProvider(readers)
        metrics.set_meter_provider(meters)
        ends.append(meters.shutdown)

    def end() -> None:
        for each in ends:
            each()

    return end


def _named(variable: str) -> Iterator[str]:
    for name in (os.environ.get(variable) or "otlp").split(","):
        if (name := name.strip()) and name != "none":
            yield name


def _exporter(variable: str, name: str) -> Any:
    found = {each.name: each for each in entry_points(group=_GROUPS[variable])}
    chosen = next((each for each in _spellings(name) if each in found), None)
    if chosen is None:
        package = "opentelemetry-exporter-otlp" if name == "otlp" else f"the package of the exporter {name!r}"
        raise ConfigError(
            f"Telemetry is on, and {variable} is {os.environ.get(variable) or 'not set, which means otlp'}, but that "
            f"exporter is not installed. Install {package}, or set {variable} to console or none."
        )
    return found[chosen].load()


def _spellings(name: str) -> tuple[str, ...]:
    """Under which names an exporter may be installed. OTLP has one for each protocol."""
    if name != "otlp":
        return (name,)
    http = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").startswith("http")
    return ("otlp_proto_http", "otlp_proto_grpc") if http else ("otlp_proto_grpc", "otlp_proto_http")
