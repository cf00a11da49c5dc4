"""Durations of super-steps and commits are noted some at a time, and none is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from superstep import telemetry
from superstep.runtime.telemetry import instruments
from superstep.runtime.telemetry.instruments import Batch, Instruments
from superstep.runtime.telemetry.switch import active
from tests.runtime.telemetry.conftest import measured
from tests.support.graphs import chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(instruments, "time", made)
    return made


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def batch(reader: InMemoryMetricReader) -> Batch:
    made = Instruments(MeterProvider([reader], shutdown_on_exit=False).get_meter("superstep"))
    return Batch(made, {"gen_ai.workflow.name": "g"}, context.Context())


def noted(reader: InMemoryMetricReader, name: str) -> int:
    return sum(point.count for point in measured(reader).get(name, []))


STEPS = "superstep.step.duration"


def test_the_first_is_noted_at_once_and_the_next_ones_together(
    batch: Batch, reader: InMemoryMetricReader, clock: Clock
) -> None:
    batch.add("steps", 0.1)
    assert noted(reader, STEPS) == 1
    for _ in range(31):
        batch.add("steps", 0.1)
    assert noted(reader, STEPS) == 1
    batch.add("steps", 0.1)
    assert noted(reader, STEPS) == 33


def test_the_slowest_of_those_noted_together_says_which_run_it_was(reader: InMemoryMetricReader, clock: Clock) -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(7, 8, is_remote=False, trace_flags=trace.TraceFlags(1)))
    made = Instruments(MeterProvider([reader], shutdown_on_exit=False).get_meter("superstep"))
    batch = Batch(made, {}, trace.set_span_in_context(span, context.Context()))
    batch.add("steps", 0.1)
    for seconds in (0.3, 5.0, 0.2):
        batch.add("steps", seconds)
    batch.note()
    (point,) = measured(reader)[STEPS]
    assert [(each.value, each.trace_id, each.span_id) for each in point.exemplars] == [(0.1, 7, 8), (5.0, 7, 8)]


def test_what_has_waited_for_a_second_is_noted_with_the_next(
    batch: Batch, reader: InMemoryMetricReader, clock: Clock
) -> None:
    batch.add("steps", 0.1)
    batch.add("steps", 0.1)
    clock.now += 1.0
    batch.add("steps", 0.1)
    assert noted(reader, STEPS) == 3


def test_the_rest_is_noted_at_the_end(batch: Batch, reader: InMemoryMetricReader, clock: Clock) -> None:
    for _ in range(5):
        batch.add("commits", 0.1)
    batch.note()
    batch.note()
    assert noted(reader, "superstep.commit.duration") == 5


def test_threads_lose_none(batch: Batch, reader: InMemoryMetricReader) -> None:
    start = threading.Barrier(4)

    def add(_: int) -> None:
        start.wait()
        for _ in range(1000):
            batch.add("steps", 0.1)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(4)))
    batch.note()
    assert noted(reader, STEPS) == 4000


async def test_super_steps_of_plain_langgraph_are_noted_at_once(
    saver: TransactionalSaver, thread: RunnableConfig, reader: InMemoryMetricReader
) -> None:
    """It never says that a run is over."""

    async def one(state: Any) -> Any:
        return {"n": 1}

    async def two(state: Any) -> Any:
        return {"n": 2}

    telemetry(traces=False, meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    try:
        assert active.telemetry is not None
        await chain(saver, one, two).ainvoke({"n": 0}, thread)
        assert noted(reader, STEPS) == 2
    finally:
        telemetry(traces=False, metrics=False)
