"""Tasks that read and append at random, and tell in what they return what they have read and written.

So the state that is committed in the end tells what the committed attempt of each task did, and nothing else.
"""

from __future__ import annotations

import asyncio
import copy
import operator
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from superstep.checkpointer import current_step
from tests.isolation.checker import Transaction

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from superstep.checkpointer import Step

__all__ = ["APPEND", "LOOK", "READ", "Keys", "Shape", "Tasks", "transaction_of"]

READ = "SELECT vals FROM list_of WHERE key = $1"
APPEND = "UPDATE list_of SET vals = vals || $2::int WHERE key = $1"
LOOK = "SELECT val FROM member WHERE key = $1"
ADD = "INSERT INTO member (key, val) VALUES ($1, $2)"
_HOT = 4  # keys that are chosen more often than the others, where there are others


@dataclass(frozen=True, slots=True)
class Shape:
    """How much happens.

    Attributes:
        flows: at the same time.
        rounds: of each flow; a round is a super-step, or two with that of a subgraph.
        siblings: tasks in each super-step.
        nested: whether one of them runs a subgraph between reading and writing.
        outside: programs that write beside the flows, each so many times.
        keys: lists; there are half as many sets.
        heat: share of reads and writes that are of the hot keys.
        asks: share of tasks that ask a model, before they read or about what they have read.
        least: appends of each task. One that writes nothing could be lost without a trace.
    """

    flows: int = 6
    rounds: int = 5
    siblings: int = 1
    nested: bool = False
    outside: int = 0
    keys: int = 4
    heat: float = 1.0
    asks: float = 0.0
    least: int = 0


@dataclass(frozen=True, slots=True)
class Keys:
    """What can be read and written."""

    lists: tuple[str, ...]
    sets: tuple[str, ...]
    heat: float

    @classmethod
    def of(cls, shape: Shape) -> Keys:
        """The first ones are hot."""
        return cls(
            tuple(f"list {at}" for at in range(shape.keys)),
            tuple(f"set {at}" for at in range(shape.keys // 2)),
            shape.heat,
        )

    def pick(self, dice: random.Random, keys: Sequence[str]) -> str:
        """One of the keys."""
        if len(keys) > _HOT:
            keys = keys[:_HOT] if dice.random() < self.heat else keys[_HOT:]
        return dice.choice(keys)


class State(TypedDict, total=False):
    """A flow's, and a subgraph's, which is told what its caller has read."""

    left: int
    seen: dict[str, Any]
    log: Annotated[list[dict[str, Any]], operator.add]


@dataclass
class Tasks:
    """Makes the graph of all flows.

    Attributes:
        shape: of the flows.
        dice: for what a task does, by its name in the run. The same dice whenever it runs make the same choices.
        values: where each execution gets values that nobody else writes.
        ask: a model.
        keys: what is read and written.
    """

    shape: Shape
    dice: Callable[[str], random.Random]
    values: Iterator[int]
    ask: Callable[[str], Awaitable[str]] | None = None
    keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = Keys.of(self.shape)

    def graph(self, saver: Any) -> Any:
        """A graph whose super-steps have `siblings` tasks, for as many rounds as the input says are `left`."""
        builder = StateGraph(State)
        names = [f"task{at}" for at in range(self.shape.siblings)]
        inner = self._inner()
        for at, each in enumerate(names):
            builder.add_node(each, self._task(each, inner if self.shape.nested and at == 0 else None))
            builder.add_edge(START, each)
        builder.add_conditional_edges(names[0], lambda state: names if state["left"] > 0 else END, [*names, END])
        return builder.compile(checkpointer=saver)

    def _task(self, name: str, inner: Any) -> Any:
        async def task(state: State) -> State:
            step = current_step()
            entry, dice = await self._reads(step, name, state["left"])
            logs = [entry]
            if inner is not None:
                seen = {"seen": copy.deepcopy(entry), "left": state["left"], "log": []}
                done = (await inner.ainvoke(seen))["log"]
                logs += done
                _rest_on(entry, done)
            self._writes(step, entry, dice)
            return {"left": state["left"] - 1, "log": logs} if name == "task0" else {"log": logs}

        return task

    def _inner(self) -> Any:
        async def node(state: State) -> State:
            step = current_step()
            entry, dice = await self._reads(step, "inner", state["left"])
            for kind in ("lists", "sets"):  # it answers for what its caller has read
                entry[kind] = {**state["seen"][kind], **entry[kind]}
            self._writes(step, entry, dice)
            return {"log": [entry]}

        return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()

    async def _reads(self, step: Step, task: str, left: int) -> tuple[dict[str, Any], random.Random]:
        name = f"{step.thread_id} {task} with {left} left"
        dice = self.dice(name)
        entry: dict[str, Any] = {"name": name, "nth": next(self.values), "lists": {}, "sets": {}, "asked": []}
        asks = self.ask is not None and dice.random() < self.shape.asks
        about_facts = dice.random() < 0.5
        if asks and not about_facts:
            await self._ask(entry, name)
        for _ in range(dice.randint(1, 2)):
            key = self.keys.pick(dice, self.keys.lists)
            entry["lists"][key] = list(await step.fetchval(READ, key))
            await _think(dice)
        if dice.random() < 0.4:
            key = self.keys.pick(dice, self.keys.sets)
            entry["sets"][key] = [row["val"] for row in await step.fetch(LOOK, key)]
            await _think(dice)
        if asks and about_facts:
            facts = zlib.crc32(repr((entry["lists"], sorted(map(sorted, entry["sets"].values())))).encode())
            await self._ask(entry, f"{name} at {facts}")
        return entry, dice

    async def _ask(self, entry: dict[str, Any], question: str) -> None:
        assert self.ask is not None
        assert question in await self.ask(question)
        entry["asked"].append(question)

    def _writes(self, step: Step, entry: dict[str, Any], dice: random.Random) -> None:
        entry["appended"], entry["added"] = [], []
        for _ in range(max(self.shape.least, dice.choice((0, 1, 1, 2)))):
            key, value = self.keys.pick(dice, self.keys.lists), next(self.values)
            step.stage(APPEND, key, value, expect_rows=1)
            entry["appended"].append([key, value])
        if dice.random() < 0.4:
            key, value = self.keys.pick(dice, self.keys.sets), next(self.values)
            step.stage(ADD, key, value, expect_rows=1)
            entry["added"].append([key, value])


async def _think(dice: random.Random) -> None:
    for _ in range(dice.randrange(6)):
        await asyncio.sleep(0)


def _rest_on(entry: dict[str, Any], inner: Sequence[dict[str, Any]]) -> None:
    """What a task has read counts with what its own subgraph has written since: its commit expects just that."""
    for done in inner:
        for kind, of in (("lists", "appended"), ("sets", "added")):
            for key, value in done[of]:
                if key in entry[kind] and value not in entry[kind][key]:
                    entry[kind][key].append(value)


def transaction_of(entry: dict[str, Any]) -> Transaction:
    """What a task's entry in the log says that it did."""
    return Transaction(
        f"{entry['name']} #{entry['nth']}",
        {key: tuple(values) for key, values in entry["lists"].items()},
        {key: frozenset(values) for key, values in entry["sets"].items()},
        [(key, value) for key, value in entry["appended"]],
        [(key, value) for key, value in entry["added"]],
    )
