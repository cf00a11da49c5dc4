"""Graphs that go wrong after their first step: by an error until a file appears, or by never ending."""

import asyncio
import time
from pathlib import Path
from typing import TypedDict

from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    gate: str
    done: bool


async def begin(state: State) -> State:
    return {"done": False}


def is_open(state: State) -> bool:
    return Path(state["gate"]).exists()


async def pass_gate(state: State) -> State:
    if not is_open(state):
        raise ValueError("the gate is shut")
    return {"done": True}


async def wait_for_gate(state: State) -> State:
    if not is_open(state):
        await asyncio.sleep(600)
    return {"done": True}


def block_until_gate(state: State) -> State:
    if not is_open(state):
        time.sleep(600)
    return {"done": True}


async def poll_gate(state: State) -> State:
    async with asyncio.timeout(60):
        while not is_open(state):  # noqa: ASYNC110 - the gate is a file that another process makes
            await asyncio.sleep(0.02)
    return {"done": True}


def _two_steps(node) -> StateGraph:
    made = StateGraph(State)
    made.add_node("begin", begin)
    made.add_node("gate", node)
    made.add_edge(START, "begin")
    made.add_edge("begin", "gate")
    return made


graph = _two_steps(pass_gate)
slow = _two_steps(wait_for_gate)
blocked = _two_steps(block_until_gate)
polling = _two_steps(poll_gate)
