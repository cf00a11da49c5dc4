"""The flow of all runs: it asks a model, writes twice, and emits effects that go to a real receiver."""

from __future__ import annotations

import asyncio
import os
import random
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import httpx
from langgraph.graph import END, START, StateGraph

from superstep import current_step
from superstep.effects import Effect, handler
from tests.soak.books import Book
from tests.soak.worker import asks

if TYPE_CHECKING:
    from superstep.checkpointer import Step

__all__ = ["BOOK", "GRAPH", "RECEIVER", "TABLES", "flow"]

BOOK, RECEIVER = "SOAK_BOOK", "SOAK_RECEIVER"  # variables: where a worker writes, and where effects go
GRAPH = f"{__name__}:flow"
ACCOUNTS = 2_000  # so many that each is found by the index, and few meet: this is about deaths
TABLES = f"""
CREATE TABLE account AS SELECT id, 0 AS balance FROM generate_series(1, {ACCOUNTS}) AS id;
ALTER TABLE account ADD PRIMARY KEY (id);
ANALYZE account;
CREATE TABLE ledger (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, thread text, nr int, node text);
"""
# The rests of a second in which nothing could be lost would not be worth a kill.
_THINKS = (0.0, 0.03)
_chance = random.SystemRandom()


class State(TypedDict, total=False):
    """A run: its thread, its number there, how many effects it has; and what the model said."""

    thread: str
    nr: int
    account: int
    effects: int
    said: str


@cache
def _ask() -> Any:
    return asks(Book(Path(os.environ[BOOK])))


@cache
def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=False, trust_env=False)


def write(step: Step, state: State, node: str) -> None:
    """Neither of the two could be repeated without showing."""
    step.stage("UPDATE account SET balance = balance + 1 WHERE id = $1", state["account"], expect_rows=1)
    step.stage("INSERT INTO ledger (thread, nr, node) VALUES ($1, $2, $3)", state["thread"], state["nr"], node)


async def plan(state: State) -> State:
    """What is read moves all the time; what is asked does not say it, so an answer stays one."""
    step = current_step()
    await step.fetchval("SELECT balance FROM account WHERE id = $1", state["account"])
    await asyncio.sleep(_chance.uniform(*_THINKS))
    said = await _ask()(f"{state['thread']} run {state['nr']}")
    write(step, state, "plan")
    return {"said": said}


async def act(state: State) -> State:
    """Every second effect stands in the line of its thread."""
    step = current_step()
    write(step, state, "act")
    for n in range(state["effects"]):
        payload = {"thread": state["thread"], "nr": state["nr"], "n": n}
        step.emit("soak.fleet", payload, key=state["thread"] if n % 2 else None)
    return {}


@handler("soak.fleet", attempts=1_000, backoff=0.05, longest=0.5, timeout=1.0)
async def deliver(effect: Effect) -> None:
    """Hands the identity over; the receiver recognises by it what it has had."""
    answer = await _client().post(os.environ[RECEIVER], json=effect.payload, headers={"idempotency-key": effect.id})
    answer.raise_for_status()


flow = (
    StateGraph(State)
    .add_node("plan", plan)
    .add_node("act", act)
    .add_edge(START, "plan")
    .add_edge("plan", "act")
    .add_edge("act", END)
)
