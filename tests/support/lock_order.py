"""The order in which waits may nest, checked while tests run.

    wait for a commit   before   a turn   before   a snapshot's lock   before   a connection

Whatever waits for an earlier thing with a later one in hand could wait for ever: the holder of the one may need the
other. Two connections are never in one task's hands either.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import Any

import pytest

from superstep.checkpointer.database.database import Database
from superstep.checkpointer.database.leases import Connections
from superstep.checkpointer.step.snapshot import Snapshot
from superstep.checkpointer.threads.namespace import Namespace
from superstep.checkpointer.turns import Turns

_held: Counter[tuple[asyncio.Task[Any] | None, str]] = Counter()


def _in_hand(what: str) -> int:
    return _held[asyncio.current_task(), what]


class OrderedLock(asyncio.Lock):
    """A snapshot's lock that is not waited for with a borrowed connection in hand."""

    async def acquire(self) -> Any:
        assert not _in_hand("connection"), "waits for a snapshot's lock with a borrowed connection in hand"
        done = await super().acquire()
        _held[asyncio.current_task(), "lock"] += 1
        return done

    def release(self) -> None:
        _held[asyncio.current_task(), "lock"] -= 1
        super().release()


def watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check every wait until the test ends."""
    _held.clear()
    init, borrow, committed = Snapshot.__init__, Connections.borrow, Namespace.committed
    autocommit, take = Database.autocommit, Turns.take

    def ordered(self: Snapshot, database: Any, *more: Any) -> None:
        init(self, database, *more)
        self.lock = OrderedLock()

    @asynccontextmanager
    async def counted(self: Connections) -> Any:
        async with borrow(self) as conn:
            task = asyncio.current_task()
            _held[task, "connection"] += 1
            try:
                yield conn
            finally:
                _held[task, "connection"] -= 1

    async def single(self: Database, work: Any) -> Any:
        # Not `borrow` itself: failpoints of tests look at the database by transactions of their own.
        assert not _in_hand("connection"), "waits for a connection with another one in hand"
        return await autocommit(self, work)

    async def waited(self: Namespace, checkpoint_id: str) -> None:
        assert not _in_hand("connection"), "waits for a commit with a connection in hand"
        assert not _in_hand("lock"), "waits for a commit with a snapshot's lock in hand"
        await committed(self, checkpoint_id)

    async def took(self: Turns, *args: Any) -> Any:
        assert not _in_hand("connection"), "waits for a turn with a connection in hand"
        assert not _in_hand("lock"), "waits for a turn with a snapshot's lock in hand"
        return await take(self, *args)

    monkeypatch.setattr(Turns, "take", took)
    monkeypatch.setattr(Snapshot, "__init__", ordered)
    monkeypatch.setattr(Connections, "borrow", counted)
    monkeypatch.setattr(Database, "autocommit", single)
    monkeypatch.setattr(Namespace, "committed", waited)


@pytest.fixture(autouse=True)
def lock_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here also checks the order of waits."""
    watch(monkeypatch)
