"""What the results of an earlier run are to the one that takes the thread over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from tests.support.bank import BALANCE, SET
from tests.support.graphs import fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_saved_results_are_hypotheses(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """One task finishes, the process dies; before the resume the facts of the finished task move."""
    runs: list[str] = []
    finished = asyncio.Event()

    async def done(state: Any) -> Any:
        runs.append("done")
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        step.stage(SET, balance - 10, 1, expect_rows=1)
        return {"seen": [balance]}

    async def steady(state: Any) -> Any:
        runs.append("steady")
        balance = await current_step().fetchval(BALANCE, 2)
        return {"seen": [balance]}

    async def crashing(state: Any) -> Any:
        runs.append("crashing")
        if runs.count("crashing") == 1:
            await finished.wait()
            raise RuntimeError("crash")
        return {"seen": ["survived"]}

    async def flushed() -> None:
        if len(await bank.do("SELECT 1 FROM runtime.task_effect")) == 2:
            finished.set()

    failpoints.arm("writes.flushed", flushed)
    with pytest.raises(RuntimeError, match="crash"):
        await fan(saver, crashing, done, steady).ainvoke({"seen": []}, thread)
    await bank.set(50)
    async with TransactionalSaver.from_conn_string(database_url) as restarted:
        result = await transactional(fan(restarted, crashing, done, steady)).ainvoke(None, thread)
    assert result["seen"] == ["survived", 50, 100]
    assert runs.count("done") == 2
    assert runs.count("steady") == 1
    assert await bank.balance() == 40
