"""The flows that the workers of the benchmark run. What they note goes to the file that a variable names."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, TypedDict

from langgraph.graph import END, START, StateGraph

from superstep import current_step
from superstep.effects import Effect, handler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["NOTES", "TOPIC", "emitting", "graph", "idle", "lasting", "nothing"]

NOTES = "FLEET_BENCHMARK_NOTES"
TOPIC = "fleet.benchmark"


class State(TypedDict, total=False):
    """A number, and an account."""

    n: int


def note(*said: object) -> None:
    """A line, whole, with the clock that all processes of the machine share."""
    file = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f"{' '.join(map(str, said))} {time.monotonic()}\n".encode())
    os.close(file)


async def nothing(state: State) -> State:
    """No read, no write."""
    return {"n": state["n"] + 1}


async def draw(state: State) -> State:
    """Reads one of some accounts, and sets what is left of it: who reads the same one meanwhile is wrong."""
    step = current_step()
    left = await step.fetchval("SELECT balance FROM account WHERE id = $1", state["n"])
    step.stage("UPDATE account SET balance = $2 WHERE id = $1", state["n"], left - 1, expect_rows=1)
    return {}


async def send(state: State) -> State:
    """An effect."""
    current_step().emit(TOPIC, {"n": state["n"]})
    return {}


async def last(state: State) -> State:
    """In the first process that comes to it, it lasts until that is killed."""
    note("run", os.getpid())
    with open(os.environ[NOTES]) as notes:  # noqa: ASYNC230, PTH123 - a few lines
        if len(notes.readlines()) == 1:
            await asyncio.Event().wait()
    return {}


@handler(TOPIC)
async def deliver(effect: Effect) -> None:
    """Notes when it came."""
    note("effect", effect.payload["n"])


def graph(node: Callable[[State], Awaitable[State]]) -> StateGraph[State]:
    """Of one node."""
    return StateGraph(State).add_node("work", node).add_edge(START, "work").add_edge("work", END)


idle, drawing, emitting, lasting = (graph(node) for node in (nothing, draw, send, last))
