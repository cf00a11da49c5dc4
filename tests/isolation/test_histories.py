"""Random histories are serializable; and they are not, if any part of the commit protocol is switched off."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.commit.order import CommitOrder
from superstep.checkpointer.step.snapshot import Snapshot
from superstep.checkpointer.turns.hot import Hot
from tests.isolation.workload import Shape, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer.step.shared import SharedTransaction

SHAPES = {
    "one task": Shape(),
    "siblings": Shape(siblings=3, rounds=4),
    "nested": Shape(nested=True),
    "nested beside siblings": Shape(siblings=2, nested=True, rounds=4),
    "programs beside": Shape(outside=25),
    "everything": Shape(siblings=2, nested=True, outside=15, rounds=4),
}


@asynccontextmanager
async def savers(url: str, many: int, hold_idle: float) -> AsyncIterator[list[TransactionalSaver]]:
    """As many processes, as far as the database can tell."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(TransactionalSaver.from_conn_string(url, hold_idle=hold_idle, pool_max=6))
            for _ in range(many)
        ]


@pytest.mark.parametrize("hold_idle", [0, 0.25], ids=["replay", "direct"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_histories_are_serializable(database_url: str, shape: str, hold_idle: float) -> None:
    async with savers(database_url, 2, hold_idle) as opened:
        for seed in range(3):
            assert await World(opened, SHAPES[shape], seed).run() == []


@pytest.mark.parametrize("shape", SHAPES)
async def test_histories_in_shared_transactions_are_serializable(
    database_url: str, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """As if commits kept meeting, in two processes, and nobody waited for a turn on what he reads."""
    handed_on = 0
    hand_on = Snapshot.hand_on

    def counted(self: Snapshot) -> SharedTransaction:
        nonlocal handed_on
        handed_on += 1
        return hand_on(self)

    monkeypatch.setattr(Snapshot, "hand_on", counted)
    monkeypatch.setattr(CommitOrder, "is_contended", True)
    monkeypatch.setattr(Hot, "is_quiet", True)
    async with savers(database_url, 2, 0.25) as opened:
        for seed in range(3):
            assert await World(opened, SHAPES[shape], seed).run() == []
    assert handed_on


_LONG = Shape(flows=40, rounds=50, outside=200, keys=1000, heat=0.02)
_LONG_NESTED = Shape(flows=20, rounds=50, siblings=2, nested=True, outside=100, keys=2000, heat=0.02)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(10))
async def test_long_histories_are_serializable(database_url: str, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """2,000 super-steps each, of which few meet: as flows are, for the greater part."""
    monkeypatch.setattr(CommitOrder, "is_contended", seed % 3 == 2)
    async with savers(database_url, 2, 0.25 * (seed % 2)) as opened:
        assert await World(opened, _LONG_NESTED if seed < 2 else _LONG, seed).run() == []
        async with opened[0].transaction() as tx:
            done = await tx.fetchval("SELECT count(*) FROM runtime.checkpoint WHERE stats IS NOT NULL")
    assert done >= 2000
