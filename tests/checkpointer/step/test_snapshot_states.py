"""A snapshot through random events on a real server: no connection is lost, none given back in a transaction."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep.checkpointer.database.errors import is_closed
from superstep.checkpointer.step.answers import Answer
from superstep.checkpointer.step.read_set import Read, digest_rows
from superstep.checkpointer.step.snapshot import Snapshot, SnapshotState
from superstep.checkpointer.step.task import Task
from superstep.runtime.faults import IllegalTransition

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank

# What may follow what, from the diagram in `snapshot`.
LEGAL = {
    SnapshotState.CLOSED: {SnapshotState.BARE, SnapshotState.CLOSED},
    SnapshotState.BARE: {SnapshotState.OPEN, SnapshotState.CLOSED},
    SnapshotState.OPEN: {SnapshotState.DIRTY, SnapshotState.BARE, SnapshotState.CLOSED},
    SnapshotState.DIRTY: {SnapshotState.OPEN, SnapshotState.DIRTY, SnapshotState.BARE, SnapshotState.CLOSED},
}
BALANCE = "SELECT balance FROM account WHERE id = 1"


class Walk:
    """Events on one snapshot, and what must hold after each."""

    def __init__(self, saver: TransactionalSaver, bank: Bank, turns: random.Random) -> None:
        self.turns = turns
        self.snapshot = Snapshot(saver.database)
        self.connections = saver.database.connections
        self.bank = bank
        self.task = Task("task")
        self.log: list[Read] = []
        self.facts_moved = False
        given_back = self.connections.give_back

        async def checked(conn: Any) -> None:
            assert is_closed(conn) or not conn.is_in_transaction()
            await given_back(conn)

        self.connections.give_back = checked  # type: ignore[method-assign]

    async def pin(self) -> None:
        was_held = self.snapshot.is_held
        moved = await self.snapshot.pin([(self.task, self.log, ())])
        assert bool(moved) == (self.facts_moved and not was_held and bool(self.log))
        assert self.snapshot.state is (SnapshotState.BARE if moved else SnapshotState.OPEN)
        if moved:
            self.log.clear()  # the task has drifted: nothing of its log counts
        self.facts_moved = self.facts_moved and was_held

    async def cancelled(self) -> None:
        """The task that opens the snapshot is cancelled at some turn of the loop."""
        if self.snapshot.state is SnapshotState.CLOSED:
            opening = asyncio.create_task(self.snapshot.pin([(self.task, self.log, ())]))
            for _ in range(self.turns.randrange(40)):
                await asyncio.sleep(0)
            opening.cancel()
            (moved,) = await asyncio.gather(opening, return_exceptions=True)
            if moved and not isinstance(moved, BaseException):
                self.log.clear()
            self.facts_moved = self.facts_moved and isinstance(moved, BaseException)

    async def read(self) -> None:
        if self.snapshot.state is SnapshotState.OPEN:
            rows = await self.snapshot.fetch(BALANCE, ())
            self.log.append(Read(BALANCE, (), digest_rows(rows)))
            self.snapshot.replay.note(self.log[-1], Answer(self.log[-1].digest))
            assert len({read.digest for read in self.log}) == 1  # one snapshot

    async def fail(self) -> None:
        if self.snapshot.state is SnapshotState.OPEN:
            with pytest.raises(asyncpg.DivisionByZeroError):
                await self.snapshot.fetch("SELECT 1/0", ())
            assert self.snapshot.state is SnapshotState.DIRTY

    async def move(self) -> None:
        if self.snapshot.state is SnapshotState.CLOSED:  # so that the change is in nobody's way
            await self.bank.set(await self.bank.balance() + 1)
            self.facts_moved = True

    async def rest(self) -> None:
        await self.snapshot.rest(BALANCE)

    async def lost(self) -> None:
        await self.snapshot.lost()
        assert self.snapshot.state is SnapshotState.CLOSED

    async def cut(self) -> None:
        """The connection dies."""
        if self.snapshot.conn is not None:
            self.snapshot.conn.terminate()
            await self.snapshot.lost()

    async def roll_back(self) -> None:
        if self.snapshot.is_held:
            await self.snapshot.roll_back()
            assert self.snapshot.state is SnapshotState.BARE

    async def commit(self) -> None:
        if self.snapshot.state is SnapshotState.OPEN:
            await self.snapshot.commit()
            assert self.snapshot.state is SnapshotState.CLOSED

    def check(self) -> None:
        held = self.snapshot.state is not SnapshotState.CLOSED
        assert (self.snapshot.conn is not None) == held
        assert self.connections.lent == int(held)


@pytest.mark.parametrize("seed", range(12))
async def test_random_events_lose_no_connection(seed: int, saver: TransactionalSaver, bank: Bank) -> None:
    chance = random.Random(seed)
    walk = Walk(saver, bank, chance)
    events = [walk.pin, walk.pin, walk.read, walk.read, walk.fail, walk.move, walk.rest, walk.lost, walk.cut]
    events += [walk.roll_back, walk.commit, walk.cancelled, walk.cancelled]
    for _ in range(60):
        async with walk.snapshot.lock:
            await chance.choice(events)()
        walk.check()
    await walk.snapshot.close()
    walk.check()


async def test_what_needs_a_connection_is_refused_without_one(saver: TransactionalSaver) -> None:
    snapshot = Snapshot(saver.database)
    with pytest.raises(AssertionError):
        await snapshot.fetch("SELECT 1", ())
    with pytest.raises(AssertionError):
        await snapshot.commit()
    assert saver.database.connections.lent == 0


@pytest.mark.parametrize("after", SnapshotState)
@pytest.mark.parametrize("before", SnapshotState)
def test_nothing_follows_but_what_is_legal(before: SnapshotState, after: SnapshotState) -> None:
    snapshot = Snapshot.__new__(Snapshot)
    snapshot.state = before
    if after in LEGAL[before]:
        snapshot._become(after)
        assert snapshot.state is after
    else:
        with pytest.raises(IllegalTransition, match=f"A snapshot is {before.value} and cannot become {after.value}"):
            snapshot._become(after)
        assert snapshot.state is before
