"""Callers that cannot await."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from langchain_core.messages import HumanMessage

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.providers import chat_model
from superstep.providers.catalog.model import Catalog, Route
from superstep.providers.chat.registry import configure
from superstep.runtime.faults import NoActiveStep
from tests.support.graphs import State, chain
from tests.support.routes import Bed, Verdict, record
from tests.support.vendors import answer, status


def test_synchronous_calls(bed: Bed) -> None:
    bed.first.script(status(503), answer("one two"))
    model = bed.model()
    assert record(model.invoke("ping"))["deployment"] == "r/anthropic"
    assert [chunk.text for chunk in model.stream("ping") if chunk.text] == ["one ", "two"]
    assert model.with_structured_output(Verdict, include_raw=True).invoke("ping")["parsed"] is None


def test_models_serve_one_event_loop_after_the_other(bed: Bed) -> None:
    model = bed.model()
    assert [asyncio.run(model.ainvoke([HumanMessage("ping")])).text for _ in range(2)] == ["pong", "pong"]


FORK = """
import os, signal
from superstep.providers.transport import sync_bridge

async def one():
    return 1

assert sync_bridge.wait_for(one()) == 1
with sync_bridge._lock:  # as if another thread were just beginning its first call
    child = os.fork()
if child == 0:
    signal.alarm(60)  # ends a child that waits for ever
    os._exit(7 if sync_bridge.wait_for(one()) == 1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sync_bridge.wait_for(one()))
"""


def test_a_forked_process_makes_synchronous_calls_too() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("7 1\n", "")


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("cached", [True, False])
async def test_blocking_the_loop_that_serves_the_super_step_is_refused(
    cached: bool, streamed: bool, bed: Bed, database_url: str
) -> None:
    configure(Catalog(routes={"r": Route(name="r", deployments=(bed.openai(),))}))
    model = chat_model("r").model_copy(update={"cache": None if cached else False})

    async def ask(state: State) -> State:
        return {"seen": [chunk.text for chunk in model.stream("ping")] if streamed else [model.invoke("ping").text]}

    try:
        async with TransactionalSaver.from_conn_string(database_url) as saver:
            with pytest.raises(NoActiveStep, match=r"Await ainvoke|Use the async method"):
                await transactional(chain(saver, ask)).ainvoke({"seen": []}, {"configurable": {"thread_id": "1"}})
    finally:
        configure(None)
    assert bed.first.count == 0


async def test_elsewhere_a_blocking_call_on_a_loop_is_answered(bed: Bed) -> None:
    model = bed.model()
    assert model.invoke("ping").text == "pong"
    assert "".join(chunk.text for chunk in model.stream("ping")) == "pong"
