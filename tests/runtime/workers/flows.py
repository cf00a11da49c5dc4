"""Graphs for workers. What they meet at is set by the test; what they did is in `did`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from superstep.checkpointer import current_step
from superstep.runtime.faults import DatabaseUnavailable
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import State, chain, fan

did: list[Any] = []
at: dict[str, asyncio.Event] = {}
go: dict[str, asyncio.Event] = {}


def reset() -> None:
    did.clear()
    at.clear()
    go.clear()
    for name in ("here", "there"):
        at[name], go[name] = asyncio.Event(), asyncio.Event()


async def write(state: State) -> State:
    step = current_step()
    await step.fetchval(BALANCE, 1)
    did.append(f"write {step.thread_id}")
    step.stage(LOG, f"{step.thread_id} {state.get('n')}")
    return {"seen": [state.get("n")]}


async def wait(state: State) -> State:
    """Until the test lets it go."""
    did.append("wait")
    at["here"].set()
    await go["here"].wait()
    return {"seen": ["waited"]}


async def ask(state: State) -> State:
    return {"seen": [interrupt("sure?")]}


async def ask_twice(state: State) -> State:
    first, second = interrupt("first?"), interrupt("second?")
    current_step().stage(LOG, f"{first} {second}")
    return {"seen": [first, second]}


async def fail(state: State) -> State:
    did.append("fail")
    raise ValueError("no such account")


async def stumble(state: State) -> State:
    """Fails twice in a way that may pass."""
    did.append("stumble")
    if did.count("stumble") < 3:
        raise DatabaseUnavailable("away for a moment")
    return {"seen": ["stood"]}


class Colour(Enum):
    RED = "red"


@dataclass
class Car:
    colour: Colour


class Garage(TypedDict):
    car: Car


async def park(state: Garage) -> dict[str, Any]:
    did.append(state["car"])
    return {}


flow = chain(None, write)
waiting = chain(None, wait, write)
asking = chain(None, ask, write)
asking_twice = chain(None, ask_twice)
later_waiting = chain(None, write, wait)
failing = chain(None, fail)
stumbling = chain(None, stumble)
siblings = fan(None, write, wait)
parking = StateGraph(Garage).add_node(park).add_edge(START, "park").compile()


def made(config: Any) -> Any:
    """A factory, called for each run."""
    did.append(config["configurable"].get("thread_id"))
    return chain(None, write)
