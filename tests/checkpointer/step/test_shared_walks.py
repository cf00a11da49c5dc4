"""Snapshots that hand a transaction on, driven at random: what each is told of its writes is what became of them."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import asyncpg
import pytest

from superstep.checkpointer.database.errors import DRIVER_ERRORS, is_closed, is_serialization_failure
from superstep.checkpointer.step.snapshot import Snapshot
from tests.support.bank import LOG

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver
    from superstep.checkpointer.step.shared import SharedTransaction
    from tests.support.bank import Bank

MEMBERS = 40


class Walk:
    """Members one after the other, each with the transaction of the one before if that has handed it on.

    Attributes:
        kept: those that were told that their line is committed.
        gone: those that were told, or know, that it is not.
        unknown: those that were told nothing for certain.
    """

    def __init__(self, saver: TransactionalSaver, chance: random.Random) -> None:
        self.saver = saver
        self.chance = chance
        self.handed: SharedTransaction | None = None
        self.waiting: list[asyncio.Task[None]] = []
        self.kept: set[str] = set()
        self.gone: set[str] = set()
        self.unknown: set[str] = set()

    async def member(self, name: str) -> None:
        """Begin, write a line, and hand on or end in some way; or be cancelled at some moment."""
        snapshot = Snapshot(self.saver.database)
        if self.handed is not None:
            handed, self.handed = self.handed, None
            snapshot.adopt(handed)
        working = asyncio.create_task(self._work(snapshot, name))
        if self.chance.random() < 0.25:
            for _ in range(self.chance.randrange(60)):
                await asyncio.sleep(0)
            working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        if working.cancelled() or working.exception() is not None:
            if name not in self.kept | self.gone | self.unknown and name not in {t.get_name() for t in self.waiting}:
                self.unknown.add(name)
            await snapshot.close()
        assert snapshot.conn is None

    async def _work(self, snapshot: Snapshot, name: str) -> None:
        async with snapshot.lock:
            try:
                if self.chance.random() < 0.1:
                    self.gone.add(name)
                    await snapshot.lost()
                    return
                await snapshot.pin([])
                if self.chance.random() < 0.2:
                    self.gone.add(name)
                    await self._end_early(snapshot)
                    return
                await snapshot.begin_writes()
                await snapshot.connection.execute(LOG.replace("$1", f"'{name}'"))
                if self.chance.random() < 0.3:
                    self.gone.add(name)
                    await self._end_early(snapshot)
                elif self.chance.random() < 0.2:
                    await snapshot.commit()
                    self.kept.add(name)
                else:
                    self.handed = snapshot.hand_on()
                    self.waiting.append(asyncio.create_task(self._wait(self.handed, name), name=name))
            except DRIVER_ERRORS as e:
                await snapshot.lost(e)

    async def _end_early(self, snapshot: Snapshot) -> None:
        kind = self.chance.choice(["roll back", "release", "fail", "dirty", "cut", "die"])
        if kind == "roll back":
            await snapshot.roll_back()
            await snapshot.lost()
        elif kind == "release":
            await snapshot.lost()
        elif kind == "fail":
            with pytest.raises(asyncpg.PostgresError):
                await snapshot.fetch("SELECT 1/0", ())
            await snapshot.mend()
            await snapshot.lost()
        elif kind == "dirty":
            with pytest.raises(asyncpg.PostgresError):
                await snapshot.connection.execute("INSERT INTO journal (line) VALUES (NULL)")
            await snapshot.lost()
        elif kind == "cut":
            snapshot.connection.terminate()
            await snapshot.lost()
        else:
            with pytest.raises(DRIVER_ERRORS):
                await snapshot.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            await snapshot.lost()

    async def _wait(self, shared: SharedTransaction, name: str) -> None:
        try:
            await shared.committed()
        except DRIVER_ERRORS as e:
            (self.gone if is_serialization_failure(e) else self.unknown).add(name)
        else:
            self.kept.add(name)

    async def run(self) -> None:
        for at in range(MEMBERS):
            await self.member(str(at))
        if self.handed is not None:
            await self.handed.commit(self.saver.database.connections)
        async with asyncio.timeout(10):
            await asyncio.gather(*self.waiting)


@pytest.mark.parametrize("seed", range(40))
async def test_what_each_is_told_is_what_became_of_it(seed: int, saver: TransactionalSaver, bank: Bank) -> None:
    connections = saver.database.connections
    given_back = connections.give_back

    async def checked(conn: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]) -> None:
        assert is_closed(conn) or not conn.is_in_transaction()
        await given_back(conn)

    connections.give_back = checked  # type: ignore[method-assign, assignment]
    walk = Walk(saver, random.Random(seed))
    await walk.run()
    lines = await bank.journal()
    assert len(lines) == len(set(lines))
    assert walk.kept <= set(lines)
    assert not walk.gone & set(lines)
    assert walk.kept | walk.gone | walk.unknown == {str(at) for at in range(MEMBERS)}
    assert walk.kept
    assert connections.lent == 0
