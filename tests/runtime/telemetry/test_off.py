"""Off, telemetry makes no span and loads nothing; what it needs and is not there is named."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from superstep import current_step, telemetry, transactional
from superstep.runtime.faults import ConfigError
from superstep.runtime.telemetry.switch import active
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import State, chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.runtime.telemetry.conftest import Spans

PROGRAM = '''
import asyncio, sys


class Missing:
    """LangSmith, which LangChain brings along, loads OpenTelemetry where it finds it. Here nobody does."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name, name=name)


sys.meta_path.insert(0, Missing())

from typing import TypedDict
from langgraph.graph import START, StateGraph
from superstep import TransactionalSaver, current_step, chat_model, transactional


class State(TypedDict):
    n: int


async def node(state):
    step = current_step()
    await step.fetchval("SELECT 1")
    await chat_model("fast").ainvoke("hello")
    step.stage("CREATE TABLE made (n int)")
    return {"n": 1}


async def main():
    async with TransactionalSaver.from_conn_string(sys.argv[1]) as saver:
        await saver.setup()
        flow = transactional(StateGraph(State).add_node(node).add_edge(START, "node").compile(checkpointer=saver))
        await flow.ainvoke({"n": 0}, {"configurable": {"thread_id": "t"}})
    for name in sys.modules:
        if name.partition(".")[0] == "opentelemetry" or name == "superstep.runtime.telemetry.telemetry":
            print(name)


asyncio.run(main())
'''


def test_flows_run_without_opentelemetry_and_load_nothing_that_reports_to_it(database_url: str) -> None:
    command = [sys.executable, "-c", PROGRAM, database_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


async def test_no_spans_after_it_was_turned_off(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans
) -> None:
    async def node(state: State) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "x")
        return {"n": 1}

    telemetry(traces=False, metrics=False)
    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert spans.all == []


async def test_measures_without_spans(saver: TransactionalSaver, thread: RunnableConfig, spans: Spans) -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    measures = InMemoryMetricReader()

    async def node(state: State) -> Any:
        await current_step().fetchval(BALANCE, 1)
        return {"n": 1}

    telemetry(traces=False, tracer_provider=spans.provider, meter_provider=MeterProvider([measures]))
    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert spans.all == []
    found = measures.get_metrics_data()
    assert found is not None
    assert "superstep.step.duration" in found.to_json()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith("superstep.runtime.telemetry.") and name != "superstep.runtime.telemetry.switch":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"pip install 'superstep-runtime\[otel\]'"):
        telemetry()
    assert active.telemetry is None
