"""A saver whose queue is there, and what tests ask of its fleet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from superstep.checkpointer import Claimed, TransactionalSaver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import Fleet

GRAPH = "flow"
Claim = Callable[..., Awaitable[list[Claimed]]]


@pytest.fixture
async def saver(database_url: str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        await saver.setup()
        yield saver


@pytest.fixture
def fleet(saver: TransactionalSaver) -> Fleet:
    return saver.fleet


@pytest.fixture
def claim(fleet: Fleet) -> Claim:
    """Take runs as a worker with a place for so many."""

    async def take(most: int = 1, *, graphs: tuple[str, ...] = (GRAPH,), lease: float = 60.0) -> list[Claimed]:
        return await fleet.claim(uuid4(), graphs, most, lease)

    return take
