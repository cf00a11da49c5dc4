"""Flows that read and append at random, with siblings, subgraphs and programs beside them, and the history they leave.

What a task has read and written is part of what it returns, so the state that is committed in the end tells what the
committed attempt of each task did, and nothing else.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import operator
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import asyncpg
from langgraph.graph import END, START, StateGraph

from superstep import transactional
from superstep.checkpointer import current_step
from superstep.runtime.faults import ConflictExhausted, StepConflict
from tests.isolation.checker import Transaction, check
from tests.support.graphs import config_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer import Step, TransactionalSaver
    from tests.isolation.checker import Anomaly

__all__ = ["Shape", "World"]

LISTS = tuple("abcd")
SETS = tuple("uv")
READ = "SELECT vals FROM list_of WHERE key = $1"
APPEND = "UPDATE list_of SET vals = vals || $2::int WHERE key = $1"
MEMBERS = "SELECT val FROM member WHERE key = $1"
ADD = "INSERT INTO member (key, val) VALUES ($1, $2)"


@dataclass(frozen=True, slots=True)
class Shape:
    """How much happens.

    Attributes:
        flows: at the same time.
        rounds: of each flow; a round is a super-step, or two with that of a subgraph.
        siblings: tasks in each super-step.
        nested: whether one of them runs a subgraph between reading and writing.
        outside: programs that write beside the flows, each so many times.
    """

    flows: int = 6
    rounds: int = 5
    siblings: int = 1
    nested: bool = False
    outside: int = 0


class State(TypedDict, total=False):
    """A flow's, and a subgraph's, which is told what its caller has read."""

    left: int
    seen: dict[str, Any]
    log: Annotated[list[dict[str, Any]], operator.add]


@dataclass
class World:
    """A database, flows on it, and what they did."""

    savers: Sequence[TransactionalSaver]
    shape: Shape
    seed: int
    aside: list[Transaction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._values = itertools.count(1)

    async def run(self) -> list[Anomaly]:
        """Let everything happen at once, then look for what cannot have happened."""
        await self._prepare()
        flows = [self._flow(self.savers[at % len(self.savers)], f"flow {at}") for at in range(self.shape.flows)]
        beside = [self._beside(f"program {at}") for at in range(min(self.shape.outside, 2))]
        logs = await asyncio.gather(*flows)
        await asyncio.gather(*beside)
        history = [_transaction(entry) for log in logs for entry in log]
        async with self.savers[0].transaction() as tx:
            lists = {row["key"]: tuple(row["vals"]) for row in await tx.fetch("SELECT key, vals FROM list_of")}
            sets = {key: frozenset(row["val"] for row in await tx.fetch(MEMBERS, key)) for key in SETS}
        return check([*history, *self.aside], lists, sets)

    async def _prepare(self) -> None:
        async with self.savers[0].transaction() as tx:
            await tx.execute(
                "DROP TABLE IF EXISTS list_of, member; "
                "CREATE TABLE list_of (key text PRIMARY KEY, vals int[] NOT NULL DEFAULT '{}');"
                "CREATE TABLE member (key text NOT NULL, val int PRIMARY KEY)"
            )
            await tx.executemany("INSERT INTO list_of (key) VALUES ($1)", [(key,) for key in LISTS])

    # -- flows ---------------------------------------------------------------------------------------------------------

    async def _flow(self, saver: TransactionalSaver, name: str) -> list[dict[str, Any]]:
        thread_id = f"{name} of {self.seed}"
        flow = transactional(self._graph(saver, name))
        given: Any = {"left": self.shape.rounds, "log": []}
        while True:
            try:
                ended = await flow.ainvoke(given, {**config_of(thread_id), "recursion_limit": 10_000})
            except (ConflictExhausted, StepConflict):
                given = None
            else:
                return list(ended["log"])

    def _graph(self, saver: TransactionalSaver, name: str) -> Any:
        builder = StateGraph(State)
        names = [f"task{at}" for at in range(self.shape.siblings)]
        inner = self._inner(name)
        for at, each in enumerate(names):
            builder.add_node(each, self._task(f"{name} {each}", inner if self.shape.nested and at == 0 else None))
            builder.add_edge(START, each)
        builder.add_conditional_edges(names[0], lambda state: names if state["left"] > 0 else END, [*names, END])
        return builder.compile(checkpointer=saver)

    def _task(self, name: str, inner: Any) -> Any:
        async def task(state: State) -> State:
            step = current_step()
            entry = await self._reads(step, name)
            logs = [entry]
            if inner is not None:
                done = await inner.ainvoke({"seen": copy.deepcopy(entry), "log": []})
                logs += done["log"]
                _rest_on(entry, done["log"])
            self._writes(step, entry)
            return {"left": state["left"] - 1, "log": logs} if name.endswith("task0") else {"log": logs}

        return task

    def _inner(self, name: str) -> Any:
        async def node(state: State) -> State:
            step = current_step()
            entry = await self._reads(step, f"{name} inner")
            for kind in ("lists", "sets"):  # it answers for what its caller has read
                entry[kind] = {**state["seen"][kind], **entry[kind]}
            self._writes(step, entry)
            return {"log": [entry]}

        return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()

    async def _reads(self, step: Step, name: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": f"{name} #{next(self._values)}", "lists": {}, "sets": {}}
        for key in self._rng.sample(LISTS, self._rng.randint(1, 2)):
            entry["lists"][key] = list(await step.fetchval(READ, key))
            await self._think()
        if self._rng.random() < 0.4:
            key = self._rng.choice(SETS)
            entry["sets"][key] = [row["val"] for row in await step.fetch(MEMBERS, key)]
            await self._think()
        return entry

    def _writes(self, step: Step, entry: dict[str, Any]) -> None:
        entry["appended"], entry["added"] = [], []
        for _ in range(self._rng.choice((0, 1, 1, 2))):
            key, value = self._rng.choice(LISTS), next(self._values)
            step.stage(APPEND, key, value, expect_rows=1)
            entry["appended"].append([key, value])
        if self._rng.random() < 0.4:
            key, value = self._rng.choice(SETS), next(self._values)
            step.stage(ADD, key, value, expect_rows=1)
            entry["added"].append([key, value])

    async def _think(self) -> None:
        for _ in range(self._rng.randrange(6)):
            await asyncio.sleep(0)

    # -- beside them ---------------------------------------------------------------------------------------------------

    async def _beside(self, name: str) -> None:
        """A program of its own: serializable transactions that read and append."""
        for at in range(self.shape.outside):
            done = Transaction(f"{name} #{at}")
            key, value, other = self._rng.choice(LISTS), next(self._values), self._rng.choice(LISTS)
            try:
                async with self.savers[-1].transaction() as tx:
                    done.lists[other] = tuple(await tx.fetchval(READ, other))
                    await self._think()
                    await tx.execute(APPEND, key, value)
                    done.appended.append((key, value))
            except asyncpg.SerializationError:
                continue
            self.aside.append(done)


def _rest_on(entry: dict[str, Any], inner: Sequence[dict[str, Any]]) -> None:
    """What a task has read counts with what its own subgraph has written since: its commit expects just that."""
    for done in inner:
        for kind, of in (("lists", "appended"), ("sets", "added")):
            for key, value in done[of]:
                if key in entry[kind] and value not in entry[kind][key]:
                    entry[kind][key].append(value)


def _transaction(entry: dict[str, Any]) -> Transaction:
    return Transaction(
        entry["name"],
        {key: tuple(values) for key, values in entry["lists"].items()},
        {key: frozenset(values) for key, values in entry["sets"].items()},
        [(key, value) for key, value in entry["appended"]],
        [(key, value) for key, value in entry["added"]],
    )
