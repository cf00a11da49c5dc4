"""With isolation="flow" a whole run is one transaction, as far as anybody can tell. With "step" it is not.

So is what a guarded node does together with what was read for the value that it goes on from.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from superstep import guard, transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.threads import guards
from superstep.runtime.faults import ConflictExhausted
from tests.isolation.checker import Anomaly, Transaction, check
from tests.isolation.tasks import APPEND, READ
from tests.isolation.workload import TABLES
from tests.support.graphs import config_of

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYS = ("a", "b", "c")
FLOWS, ROUNDS = 8, 3


class State(TypedDict, total=False):
    """What a run has read and written so far."""

    lists: dict[str, list[int]]
    appended: list[tuple[str, int]]


class Runs:
    """Runs that read in three super-steps, one of them of a subgraph, and write in the last one."""

    def __init__(self, savers: Sequence[TransactionalSaver], seed: int, isolation: str) -> None:
        self._savers = savers
        self._dice = random.Random(seed)
        self._isolation = isolation
        self._values = itertools.count(1)

    async def run(self) -> list[Anomaly]:
        async with self._savers[0].transaction() as tx:
            await tx.execute(TABLES)
            await tx.executemany("INSERT INTO list_of (key) VALUES ($1)", [(key,) for key in KEYS])
        flows = (self._flow(self._savers[at % len(self._savers)], f"flow {at}") for at in range(FLOWS))
        history = [each for log in await asyncio.gather(*flows) for each in log]
        async with self._savers[0].transaction() as tx:
            lists = {row["key"]: tuple(row["vals"]) for row in await tx.fetch("SELECT key, vals FROM list_of")}
        return check(history, lists, {})

    async def _flow(self, saver: TransactionalSaver, name: str) -> list[Transaction]:
        if self._isolation == "guard":
            flow = transactional(self._guarded(saver))
        else:
            flow = transactional(self._graph(saver), isolation=self._isolation)
        done = []
        for at in range(ROUNDS):
            given: Any = {"lists": {}, "appended": []}
            while True:
                try:
                    end = await flow.ainvoke(given, config_of(f"{name} #{at}"))
                except ConflictExhausted:
                    given = None
                else:
                    break
            lists = {key: tuple(values) for key, values in end["lists"].items()}
            done.append(Transaction(f"{name} #{at}", lists, {}, [(key, value) for key, value in end["appended"]]))
        return done

    def _graph(self, saver: TransactionalSaver) -> Any:
        inner = StateGraph(State).add_node("reads", self._reads).add_edge(START, "reads").compile()
        builder = StateGraph(State).add_node("first", self._reads).add_node("below", inner)
        builder.add_node("last", self._writes).add_edge(START, "first").add_edge("first", "below")
        return builder.add_edge("below", "last").add_edge("last", END).compile(checkpointer=saver)

    def _guarded(self, saver: TransactionalSaver) -> Any:
        builder = StateGraph(State).add_node("first", self._reads_twice).add_edge(START, "first")
        builder.add_node("last", guard(self._appends, on="lists", otherwise="first"))
        return builder.add_edge("first", "last").add_edge("last", END).compile(checkpointer=saver)

    async def _reads_twice(self, state: State) -> State:
        return await self._reads(await self._reads({"lists": {}}))

    async def _reads(self, state: State) -> State:
        key = self._dice.choice(KEYS)
        values = list(await current_step().fetchval(READ, key))
        for _ in range(self._dice.randrange(4)):
            await asyncio.sleep(0)
        return {"lists": {**state["lists"], key: values} if key not in state["lists"] else state["lists"]}

    async def _writes(self, state: State) -> State:
        return await self._appends(await self._reads(state))

    async def _appends(self, state: State) -> State:
        key, value = self._dice.choice(KEYS), next(self._values)
        current_step().stage(APPEND, key, value, expect_rows=1)
        return {**state, "appended": [(key, value)]}


async def anomalies(url: str, isolation: str, seeds: range) -> list[list[Anomaly]]:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(TransactionalSaver.from_conn_string(url)) for _ in range(2)]
        return [await Runs(opened, seed, isolation).run() for seed in seeds]


@pytest.mark.parametrize("isolation", ["flow", "guard"])
async def test_whole_runs_are_serializable(database_url: str, isolation: str) -> None:
    found = await anomalies(database_url, isolation, range(4))
    assert found == [[]] * 4


@pytest.mark.parametrize("isolation", ["step", "guard"])
async def test_and_would_not_be_without(database_url: str, monkeypatch: pytest.MonkeyPatch, isolation: str) -> None:
    async def passes(*_: Any) -> bool:
        return True

    monkeypatch.setattr(guards, "facts_stand", passes)
    assert any(await anomalies(database_url, isolation, range(4)))
