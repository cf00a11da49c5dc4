"""A graph whose nodes say in a file that they run, and wait for a file. FLOW_FOLDER is where."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from langgraph.graph import START, StateGraph

from superstep.checkpointer import current_step
from tests.support.graphs import State


def note(line: str) -> None:
    with (Path(os.environ["FLOW_FOLDER"]) / "notes").open("a") as notes:
        notes.write(f"{line} {os.getpid()}\n")


async def first(state: State) -> State:
    note(f"first {state.get('n')}")
    return {"seen": ["first"]}


async def quick(state: State) -> State:
    note(f"quick {state.get('n')}")
    current_step().stage("INSERT INTO journal (line) VALUES ($1)", f"quick {state.get('n')}")
    return {"seen": ["quick"]}


async def slow(state: State) -> State:
    """Waits for the file `go`; then it stages one line."""
    note(f"slow {state.get('n')}")
    while not (Path(os.environ["FLOW_FOLDER"]) / "go").exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)
    current_step().stage("INSERT INTO journal (line) VALUES ($1)", f"slow {state.get('n')}")
    return {"seen": ["slow"]}


async def last(state: State) -> State:
    note(f"last {state.get('n')}")
    return {"seen": ["last"]}


builder = StateGraph(State)
for node in (first, quick, slow, last):
    builder.add_node(node.__name__, node)
builder.add_edge(START, "first")
builder.add_edge("first", "quick")
builder.add_edge("first", "slow")
builder.add_edge(["quick", "slow"], "last")
graph = builder.compile()
