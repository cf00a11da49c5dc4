"""A graph whose module has all the hooks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

events: list[str] = []


class State(TypedDict, total=False):
    events: list[str]


def example_input() -> State:
    return {"events": ["example"]}


async def setup(saver: Any) -> None:
    events.append("setup")


@asynccontextmanager
async def lifespan(saver: Any) -> AsyncIterator[None]:
    events.append("open")
    yield
    events.append("close")


async def note(state: State) -> State:
    return {"events": [*state["events"], *events]}


flow = StateGraph(State)
flow.add_node("note", note)
flow.add_edge(START, "note")
