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


async def test_errors_that_are_no_race_are_not_tried_again(saver: TransactionalSaver) -> None:
    begun = 0

    @asynccontextmanager
    async def begin() -> AsyncIterator[Any]:
        nonlocal begun
        begun += 1
        async with saver.transaction() as tx:
            yield tx

    with pytest.raises(asyncpg.UndefinedTableError):
        await PromptStore(begin, "other").prompts()
    assert begun == 1


async def test_a_race_without_end_is_given_up(saver: TransactionalSaver) -> None:
    begun = 0

    @asynccontextmanager
    async def begin() -> AsyncIterator[Any]:
        nonlocal begun
        begun += 1
        async with saver.transaction() as tx:
            yield tx
            raise asyncpg.SerializationError("met another")

    with pytest.raises(PromptConflict, match="Others kept changing") as caught:
        await PromptStore(begin).add([draft("Hello")])
    assert isinstance(caught.value.__cause__, asyncpg.SerializationError)
    assert begun == 20
    assert await PromptStore(saver.transaction).prompts() == []
