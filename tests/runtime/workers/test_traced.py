"""One trace for a run that is submitted here and performed there, and for the children that it spawns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace

from superstep.runtime.telemetry import names
from tests.runtime.telemetry.conftest import id_of, measures, parent_of, spans
from tests.runtime.workers import families
from tests.runtime.workers.conftest import FLOWS, ended, working

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver
    from tests.runtime.telemetry.conftest import Spans

__all__ = ["measures", "spans"]


async def test_a_queued_run_belongs_to_what_submitted_it(saver: TransactionalSaver, spans: Spans) -> None:
    tracer = trace.get_tracer("application", tracer_provider=spans.provider)
    with tracer.start_as_current_span("request"):
        await saver.fleet.submit(f"{FLOWS}:flow", {"n": 1})
    async with working(saver):
        await ended(saver)
    (run,) = [span for span in spans.all if span.name.startswith(names.RUN)]
    assert parent_of(run) == id_of(spans.one("request"))
    assert any(span.name.startswith(names.STEP_SPAN) for span in spans.all if parent_of(span) == id_of(run))


async def test_a_run_that_nobody_traces_begins_a_trace(saver: TransactionalSaver, spans: Spans) -> None:
    await saver.fleet.submit(f"{FLOWS}:flow", {"n": 1})
    async with working(saver):
        await ended(saver)
    (run,) = [span for span in spans.all if span.name.startswith(names.RUN)]
    assert parent_of(run) is None


async def test_a_child_belongs_to_the_task_that_spawns_it_and_a_parent_goes_on_in_its_trace(
    saver: TransactionalSaver, spans: Spans
) -> None:
    families.reset()
    async with working(saver):
        await saver.fleet.submit(f"{families.__name__}:parent", {"n": 1}, thread="p")
        await ended(saver, 3)
    assert len({span.context.trace_id for span in spans.all if span.context is not None}) == 1
    runs = [span for span in spans.all if span.name.startswith(names.RUN)]
    child = next(span for span in runs if "child" in span.name)
    spawning = next(span for span in spans.all if id_of(span) == parent_of(child))
    assert "spawn" in spawning.name
