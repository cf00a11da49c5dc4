"""docs/double-texting.md: its flow enqueues, and one call interrupts."""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from superstep.checkpointer import TransactionalSaver
from superstep.runtime.faults import StaleRun
from superstep.runtime.flow.double_texting import STRATEGIES
from superstep.runtime.flow.retry import Settings
from tests.docs.pages import blocks, page

PAGE = page("double-texting.md")


class State(TypedDict, total=False):
    text: str


async def test_its_flow_waits_and_its_other_call_interrupts(database_url: str) -> None:
    said: list[str] = []
    at_work, may_go_on = asyncio.Event(), asyncio.Event()

    async def hears(state: Any) -> Any:
        said.append(state["text"])
        if state["text"] == "one":
            at_work.set()
            await may_go_on.wait()
        if state["text"] == "three":
            at_work.set()
            await asyncio.Event().wait()
        return {}

    async with TransactionalSaver.from_conn_string(database_url) as saver, asyncio.timeout(60):
        builder = StateGraph(State).add_node("hears", hears).add_edge(START, "hears")
        names: dict[str, Any] = {"graph": builder.compile(checkpointer=saver)}
        (source,) = blocks(PAGE, "python")
        exec(source, names)
        thread = {"configurable": {"thread_id": "t"}}
        one = asyncio.create_task(names["say"](thread, "one"))
        await at_work.wait()
        two = asyncio.create_task(names["say"](thread, "two"))
        may_go_on.set()
        await asyncio.gather(one, two)
        at_work.clear()
        names["flow"].settings = Settings(interrupt_grace=0.0)
        three = asyncio.create_task(names["say"](thread, "three"))
        await at_work.wait()
        assert (await names["say_instead"](thread, "four")) == {"text": "four"}
        three.cancel()
        with pytest.raises((StaleRun, asyncio.CancelledError)):
            await three
    assert said == ["one", "two", "three", "four"]


def test_every_strategy_is_there() -> None:
    assert set(re.findall(r'^\| `"(\w+)"` \|', PAGE, re.MULTILINE)) == set(STRATEGIES)
