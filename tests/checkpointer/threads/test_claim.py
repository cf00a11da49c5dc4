"""What the results of an earlier run are to the one that takes the thread over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.database.pool import register_codecs
from tests.support.bank import BALANCE, SET
from tests.support.graphs import chain, config_of, fan
from tests.support.statements import all_statements

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


WAITS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


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


async def _one_more(state: Any) -> Any:
    return {"seen": [len(state["seen"])]}


async def test_of_a_thread_that_begins_nothing_is_loaded(saver: TransactionalSaver, database_url: str) -> None:
    sent: list[str] = []
    names = {text: name for name, text in all_statements("runtime").items()}

    async def init(connection: Any) -> None:
        await register_codecs(connection)
        connection.add_query_logger(lambda record: sent.append(names.get(record.query, "")))

    async with await asyncpg.create_pool(database_url, min_size=1, max_size=1, init=init) as pool:
        graph = transactional(chain(TransactionalSaver(pool), _one_more))
        assert (await graph.ainvoke({"seen": []}, config_of("new")))["seen"] == [0]
        await asyncio.sleep(0)  # asyncpg calls loggers on the loop's next turn
        assert (sent.count("claim"), sent.count("get_latest")) == (1, 0)
        assert (await graph.ainvoke({"seen": []}, config_of("new")))["seen"] == [0, 1]
        await asyncio.sleep(0)
        assert (sent.count("claim"), sent.count("get_latest")) == (2, 1)


async def test_a_thread_that_comes_to_be_while_it_is_claimed_is_loaded(
    saver: TransactionalSaver, database_url: str
) -> None:
    """The claim's snapshot does not show the thread, and waits for who is making it."""
    graph = transactional(chain(saver, _one_more))
    await graph.ainvoke({"seen": []}, config_of("source"))
    maker, looker = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    async with maker.transaction():
        await maker.execute(
            "INSERT INTO runtime.thread (thread_id, head) "
            "SELECT 'new', head FROM runtime.thread WHERE thread_id = 'source'"
        )
        columns = "ns, checkpoint_id, parent_id, kind, payload, channels, versions, metadata"
        await maker.execute(
            f"INSERT INTO runtime.checkpoint (thread_id, {columns}) "
            f"SELECT 'new', {columns} FROM runtime.checkpoint WHERE thread_id = 'source'"
        )
        await maker.execute(
            "INSERT INTO runtime.channel_value (thread_id, ns, channel, version, kind, value) "
            "SELECT 'new', ns, channel, version, kind, value FROM runtime.channel_value WHERE thread_id = 'source'"
        )
        run = asyncio.create_task(graph.ainvoke({"seen": []}, config_of("new")))
        while not await looker.fetchval(WAITS):
            pass  # the claim has not come to the row yet
    assert (await run)["seen"] == [0, 1]
    await maker.close()
    await looker.close()
