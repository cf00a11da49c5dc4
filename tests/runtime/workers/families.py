"""Graphs whose runs have children, and ask. What they met is in `did`; what they wait at is set by the test."""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from superstep.checkpointer import current_step
from superstep.runtime.faults import ChildFailed, QuestionExpired
from superstep.runtime.flow.transactional import transactional
from tests.support.bank import BALANCE, DEBIT
from tests.support.graphs import State, chain, fan

did: list[Any] = []
spawned: list[list[str]] = []
meet: dict[str, Any] = {}
CHILD = f"{__name__}:child"


def reset() -> None:
    did.clear()
    spawned.clear()
    meet.clear()
    meet.update(graph=CHILD, many=1, input={"n": 7}, thread=None, terms={})
    for name in ("here", "there"):
        meet[name], meet[f"go {name}"] = asyncio.Event(), asyncio.Event()


async def spawn(state: State) -> State:
    """Spawns as many as the test says; how often it ran is in `did`."""
    step = current_step()
    await step.fetchval(BALANCE, 1)
    did.append("spawn")
    step.stage(DEBIT, 1)
    given = [{**meet["input"], "n": meet["input"]["n"] + n} for n in range(meet["many"])]
    children = [step.spawn(meet["graph"], each, thread=meet["thread"]) for each in given]
    spawned.append(children)
    if "spawned" in meet:
        await meet["spawned"]()
    return {"bag": {"children": children}}


async def gather(state: State) -> State:
    did.append("gather")
    found = []
    for child in state["bag"]["children"]:
        try:
            found.append((await current_step().result(child))["seen"])
        except ChildFailed as failed:
            found.append([type(failed).__name__, failed.thread, failed.reason])
    return {"seen": found}


async def work(state: State) -> State:
    """A child's node."""
    did.append(f"work {state['n']}")
    return {"seen": [f"did {state['n']}"]}


async def hold(state: State) -> State:
    meet["here"].set()
    await meet["go here"].wait()
    return {}


async def hold_there(state: State) -> State:
    meet["there"].set()
    await meet["go there"].wait()
    return {}


async def ask(state: State) -> State:
    did.append("ask")
    return {"seen": [interrupt("sure?")]}


async def ask_to_pay(state: State) -> State:
    balance = await current_step().fetchval(BALANCE, 1)
    return {"seen": [interrupt(f"pay of {balance}?") if balance else "nothing to pay of"]}


async def ask_twice(state: State) -> State:
    return {"seen": [interrupt("first?"), interrupt("second?")]}


async def ask_here(state: State) -> State:
    return {"seen": [interrupt("here?")]}


async def ask_there(state: State) -> State:
    return {"seen": [interrupt("there?")]}


async def ask_for_a_while(state: State) -> State:
    did.append("ask")
    try:
        return {"seen": [current_step().ask("sure?", **meet["terms"])]}
    except QuestionExpired:
        return {"seen": ["expired"]}


async def fail(state: State) -> State:
    raise ValueError("no such account")


async def wait_then_ask(state: State) -> State:
    """A child and a human in one node."""
    found = (await current_step().result(state["bag"]["children"][0]))["seen"]
    return {"seen": [*found, interrupt("sure?")]}


async def ask_then_wait(state: State) -> State:
    answer = interrupt("sure?")
    return {"seen": [answer, *(await current_step().result(state["bag"]["children"][0]))["seen"], interrupt("really?")]}


def spawn_sync(state: State) -> State:
    return {"bag": {"children": [current_step().sync.spawn(meet["graph"], meet["input"])]}}


def gather_sync(state: State) -> State:
    return {"seen": [current_step().sync.result(state["bag"]["children"][0])["seen"]]}


async def spawn_below(state: State) -> State:
    return {"bag": {"children": [current_step().spawn(CHILD, {"n": state["n"] + 1})]}, "seen": ["middle has"]}


async def gather_flat(state: State) -> State:
    return {"seen": (await current_step().result(state["bag"]["children"][0]))["seen"]}


async def spawn_and_wait(state: State) -> State:
    step = current_step()
    return {"seen": [await step.result(step.spawn(CHILD, {"n": 1}))]}


async def wait_for_nobody(state: State) -> State:
    return {"seen": [await current_step().result("nobody")]}


def _nested() -> Any:
    """The graph that waits is a subgraph."""
    builder = StateGraph(State).add_node("spawn", spawn).add_node("inner", chain(None, gather))
    return builder.add_edge(START, "spawn").add_edge("spawn", "inner").add_edge("inner", END).compile()


def lift(state: dict[str, Any], _before: str) -> dict[str, Any]:
    return {**state, "seen": ["lifted"]}


parent = chain(None, spawn, gather)
middle = chain(None, spawn_below, gather_flat)
impatient = chain(None, spawn_and_wait)
mistaken = chain(None, wait_for_nobody)
child = chain(None, work)
holding = chain(None, hold, work)
holding_there = chain(None, hold_there)
failing = chain(None, fail)
asking = chain(None, ask)
paying = chain(None, ask_to_pay)
twice = chain(None, ask_twice)
both = fan(None, ask_here, ask_there)
waiting = chain(None, ask_for_a_while)
mixed = chain(None, spawn, wait_then_ask)
mixed_too = chain(None, spawn, ask_then_wait)
blocking = chain(None, spawn_sync, gather_sync)
nested = _nested()
gathering = chain(None, gather)
answered = chain(None, ask, hold, work)
lifted = transactional(chain(None, spawn, gather), name=f"{__name__}:lifted", version="2", migrate=lift)
lifted_too = transactional(chain(None, ask), name=f"{__name__}:lifted_too", version="2", migrate=lift)
