"""What telemetry costs while it is on: the loop of 50 steps, and the same with a read and a staged write."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any

import asyncpg
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from superstep import telemetry, transactional
from superstep.checkpointer import TransactionalSaver
from tests.benchmarks.loop import STEPS, build, turn
from tests.benchmarks.section import Goal, Section
from tests.benchmarks.setting import ACCOUNTS
from tests.benchmarks.tables import number, ratio, rotated, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from tests.benchmarks.setting import Place

__all__ = ["run"]

_FLOWS = 8
_OFF, _TRACES, _BOTH = "off", "traces", "traces and metrics"
_MODES = (_OFF, _TRACES, _BOTH)
_PLAIN, _WRITING = "no reads", "1 read and 1 write"
_GOAL = 0.95


class _Nowhere(SpanExporter):
    """What an exporter costs is its own."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


async def run(place: Place) -> Section:
    """The section."""
    spans = TracerProvider(shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(_Nowhere()))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    async with await asyncpg.create_pool(place.url, min_size=1, max_size=1) as pool:
        await pool.execute(ACCOUNTS)
    rows, goals = [], []
    async with TransactionalSaver.from_conn_string(place.url, pool_min=10, pool_max=10) as saver:
        await saver.setup()
        for work, graph in ((_PLAIN, build(saver)), (_WRITING, build(saver, reads_and_writes=True))):
            speeds = await _measure(transactional(graph), place.rounds * 6, spans, meters)
            shares = {mode: ratio(speeds[mode], speeds[_OFF]) for mode in (_TRACES, _BOTH)}
            rows.append([work, *(round(median(speeds[mode])) for mode in _MODES), *shares.values()])
            goals += [_goal(work, mode, share) for mode, share in shares.items()]
    spans.shutdown()
    meters.shutdown()
    head = ["super-step", *_MODES, *(f"{mode} / {_OFF}" for mode in (_TRACES, _BOTH))]
    return Section(
        f"## Telemetry\n\n{_FLOWS} flows in a loop of {STEPS} super-steps, super-steps a second. A super-step without "
        "reads has one span and one measure, one that reads and writes four and two. Spans go through the SDK's "
        "`BatchSpanProcessor` to an exporter that drops them.\n\n" + table(head, rows),
        goals,
    )


def _goal(work: str, mode: str, share: float) -> Goal:
    return Goal(
        f"{_FLOWS} flows: {work} in each of {STEPS} steps, {mode} on",
        f"{number(share)} of the steps/s without telemetry",
        str(_GOAL),
        share >= _GOAL,
    )


async def _measure(graph: Any, rounds: int, spans: TracerProvider, meters: MeterProvider) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = defaultdict(list)
    await turn(graph, _FLOWS)
    try:
        for at in range(rounds):
            for mode in rotated(_MODES, at):
                telemetry(traces=mode != _OFF, metrics=mode == _BOTH, tracer_provider=spans, meter_provider=meters)
                speeds[mode].append((await turn(graph, _FLOWS))[0])
    finally:
        telemetry(traces=False, metrics=False)
    return speeds
