"""A graph that spawns a run of another one, waits for it, and asks."""

from __future__ import annotations

from typing import Any

from langgraph.types import interrupt

from superstep.checkpointer import current_step
from tests.support.graphs import State, chain


async def spawn(_: State) -> Any:
    return {"bag": {"child": current_step().spawn(f"{__name__}:child", {"n": 2})}}


async def wait(state: State) -> Any:
    return {"seen": (await current_step().result(state["bag"]["child"]))["seen"]}


async def ask(_: State) -> Any:
    return {"seen": [interrupt("sure?")]}


async def work(state: State) -> Any:
    return {"seen": [f"did {state['n']}"]}


flow = chain(None, spawn, wait, ask)
child = chain(None, work)
