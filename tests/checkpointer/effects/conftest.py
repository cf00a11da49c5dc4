"""Effects, on a database that has the tables of the queue, with handlers of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.effects import handlers
from superstep.effects import handler
from tests.support.effects import Received

if TYPE_CHECKING:
    from collections.abc import Iterator

    from superstep.checkpointer import TransactionalSaver


@pytest.fixture(autouse=True)
def own_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(handlers, "_handlers", {})
    yield
    for name in failpoints.EFFECT_NAMES:
        failpoints.disarm(name)


@pytest.fixture
async def saver(saver: TransactionalSaver) -> TransactionalSaver:
    await saver.setup()
    return saver


@pytest.fixture
def received() -> Received:
    """What the handler of the topic "mail" takes: three attempts, with next to no pauses."""
    made = Received()
    handler("mail", attempts=3, backoff=0.001, timeout=10)(made)
    return made
