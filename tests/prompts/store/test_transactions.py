"""Transactions that meet others, and those that fail by themselves."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep.prompts import PromptStore
from superstep.runtime.faults import PromptConflict
from tests.prompts.samples import draft

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import TransactionalSaver


class Counted:
    """Transactions of a saver, counted; each ends with `error`, if there is one."""

    def __init__(self, saver: TransactionalSaver, error: Exception | None = None) -> None:
        self.begun = 0
        self._saver = saver
        self._error = error

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        self.begun += 1
        async with self._saver.transaction() as tx:
            yield tx
            if self._error is not None:
                raise self._error


async def test_errors_that_are_no_race_are_not_tried_again(saver: TransactionalSaver) -> None:
    transactions = Counted(saver)
    with pytest.raises(asyncpg.UndefinedTableError):
        await PromptStore(transactions.begin, "other").prompts()
    assert transactions.begun == 1


async def test_a_race_without_end_is_given_up(saver: TransactionalSaver) -> None:
    transactions = Counted(saver, asyncpg.SerializationError("met another"))
    with pytest.raises(PromptConflict, match="Others kept changing") as caught:
        await PromptStore(transactions.begin).add([draft("Hello")])
    assert isinstance(caught.value.__cause__, asyncpg.SerializationError)
    assert transactions.begun == 20
    assert await PromptStore(saver.transaction).prompts() == []
