"""Waits for a commit: bounded where none is coming, patient while one is under way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.threads import namespace
from superstep.runtime.faults import StaleRun
from tests.support.bank import BALANCE
from tests.support.graphs import chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def read(state: Any) -> Any:
    return {"n": await current_step().fetchval(BALANCE, 1)}


async def test_a_commit_that_nobody_begins_is_not_waited_for(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace, "_PATIENCE", 0.2)
    never = asyncio.Event()

    async def kept_back(*_: Any) -> Any:
        await never.wait()

    async def reads(state: Any) -> Any:
        try:
            return await read(state)
        finally:
            never.set()  # LangGraph waits for it at the end

    monkeypatch.setattr(saver, "aput", kept_back)
    async with asyncio.timeout(20):
        with pytest.raises(StaleRun, match="not even about to be committed"):
            await chain(saver, reads).ainvoke({"n": 0}, thread, durability="async")


async def test_a_commit_that_takes_long_is_waited_for(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace, "_PATIENCE", 0.1)

    async def slow() -> None:
        failpoints.disarm("commit.before_commit")
        await asyncio.sleep(0.5)

    failpoints.arm("commit.before_commit", slow)
    async with asyncio.timeout(20):
        assert (await chain(saver, read).ainvoke({"n": 0}, thread, durability="async"))["n"] == 100
