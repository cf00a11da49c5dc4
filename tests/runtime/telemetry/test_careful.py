"""What goes wrong in OpenTelemetry changes no flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from superstep import telemetry, transactional
from superstep.checkpointer import current_step
from superstep.runtime.telemetry import careful
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank


class BeginsNone(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("a secret")


class EndsNone(SpanProcessor):
    def on_end(self, span: Any) -> None:
        raise RuntimeError("a secret")


class ExportsNone(SpanExporter):
    def export(self, spans: Any) -> Any:
        raise RuntimeError("a secret")


class SamplesNone(Sampler):
    def should_sample(self, *args: Any, **more: Any) -> Any:
        raise RuntimeError("a secret")

    def get_description(self) -> str:
        return "none"


@pytest.fixture(autouse=True)
def on_and_off() -> Iterator[None]:
    careful._said.clear()
    yield
    telemetry(traces=False, metrics=False)


@pytest.mark.parametrize("what", [BeginsNone(), EndsNone(), SimpleSpanProcessor(ExportsNone()), SamplesNone()])
async def test_a_flow_goes_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, what: Any, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TracerProvider(sampler=what if isinstance(what, Sampler) else None)
    if isinstance(what, SpanProcessor):
        provider.add_span_processor(what)
    telemetry(tracer_provider=provider)

    async def node(state: Any) -> Any:
        seen = await current_step().fetchval(BALANCE, 1)
        current_step().stage(LOG, "did")
        return {"seen": [seen]}

    assert (await transactional(chain(saver, node)).ainvoke({}, thread))["seen"] == [100]
    assert await bank.journal() == ["did"]
    summary = await saver.athread(thread["configurable"]["thread_id"])
    assert summary is not None
    assert summary.status == "completed"
    ours = [record.getMessage() for record in caplog.records if record.name == "superstep.telemetry"]
    assert len(ours) == (0 if isinstance(what, SimpleSpanProcessor) else 1)
    assert not any("secret" in line for line in ours)
