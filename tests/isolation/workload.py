"""Flows that read and append at random in one process, with programs beside them, and the history they leave."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from superstep import transactional
from superstep.runtime.faults import ConflictExhausted, StepConflict
from tests.isolation.checker import Transaction, check
from tests.isolation.tasks import APPEND, READ, Shape, Tasks, transaction_of
from tests.support.graphs import config_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer import TransactionalSaver
    from tests.isolation.checker import Anomaly

__all__ = ["TABLES", "Shape", "World"]

TABLES = """
DROP TABLE IF EXISTS list_of, member;
CREATE TABLE list_of (key text PRIMARY KEY, vals int[] NOT NULL DEFAULT '{}');
CREATE TABLE member (key text NOT NULL, val int PRIMARY KEY);
"""


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
        self._tasks = Tasks(self.shape, lambda _: self._rng, self._values)
        self._keys = self._tasks.keys

    async def run(self) -> list[Anomaly]:
        """Let everything happen at once, then look for what cannot have happened."""
        await self._prepare()
        flows = [self._flow(self.savers[at % len(self.savers)], f"flow {at}") for at in range(self.shape.flows)]
        beside = [self._beside(f"program {at}") for at in range(min(self.shape.outside, 2))]
        logs = await asyncio.gather(*flows)
        await asyncio.gather(*beside)
        history = [transaction_of(entry) for log in logs for entry in log]
        async with self.savers[0].transaction() as tx:
            lists = {row["key"]: tuple(row["vals"]) for row in await tx.fetch("SELECT key, vals FROM list_of")}
            members = [tuple(row) for row in await tx.fetch("SELECT key, val FROM member")]
        sets = {key: frozenset(value for of, value in members if of == key) for key in self._keys.sets}
        return check([*history, *self.aside], lists, sets)

    async def _prepare(self) -> None:
        async with self.savers[0].transaction() as tx:
            await tx.execute(TABLES)
            await tx.executemany("INSERT INTO list_of (key) VALUES ($1)", [(key,) for key in self._keys.lists])

    async def _flow(self, saver: TransactionalSaver, name: str) -> list[dict[str, Any]]:
        flow = transactional(self._tasks.graph(saver))
        given: Any = {"left": self.shape.rounds, "log": []}
        while True:
            try:
                ended = await flow.ainvoke(given, {**config_of(f"{name} of {self.seed}"), "recursion_limit": 10_000})
            except (ConflictExhausted, StepConflict):
                given = None
            else:
                return list(ended["log"])

    async def _beside(self, name: str) -> None:
        """A program of its own: serializable transactions that read and append."""
        for at in range(self.shape.outside):
            done = Transaction(f"{name} #{at}")
            key, other = (self._keys.pick(self._rng, self._keys.lists) for _ in range(2))
            value = next(self._values)
            try:
                async with self.savers[-1].transaction() as tx:
                    done.lists[other] = tuple(await tx.fetchval(READ, other))
                    for _ in range(self._rng.randrange(6)):
                        await asyncio.sleep(0)
                    await tx.execute(APPEND, key, value)
                    done.appended.append((key, value))
            except asyncpg.SerializationError:
                continue
            self.aside.append(done)
