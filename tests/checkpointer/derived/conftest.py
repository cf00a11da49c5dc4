"""A saver whose database ingests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.database import failpoints

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
async def saver(database_url: str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        yield saver


@pytest.fixture(autouse=True)
def _no_ingest_failpoints() -> Iterator[None]:
    yield
    for name in failpoints.INGEST_NAMES:
        failpoints.disarm(name)
