"""Random histories are serializable; and they are not, if any part of the commit protocol is switched off."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer import TransactionalSaver
from tests.isolation.workload import Shape, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
