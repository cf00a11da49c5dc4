"""The server ends statements, transactions and sessions that take too long for its settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import DatabaseUnavailable, StagedWriteFailed
from tests.support.bank import BALANCE, LOG, Bank
from tests.support.graphs import chain, steps_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

GONE = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'limited'"


def limited(url: str, **settings: str) -> str:
    said = "".join(f"&{name}={value}" for name, value in settings.items())
    return f"{url}{'' if '?' in url else '?'}&application_name=limited{said}".replace("?&", "?")


async def until_its_session_is_gone(bank: Bank) -> None:
    async with asyncio.timeout(20):
        while True:
            (row,) = await bank.do(GONE)
            if not row["n"]:
                return


@pytest.mark.parametrize("pool", [1, 10])
@pytest.mark.parametrize("setting", ["idle_in_transaction_session_timeout", "transaction_timeout"])
async def test_a_transaction_that_the_server_ends_while_a_node_thinks(
    setting: str, pool: int, saver: TransactionalSaver, bank: Bank, database_url: str, thread: RunnableConfig
) -> None:
    """What was read is read again, in another transaction; the node runs once."""
    known = "SELECT count(*) AS n FROM pg_settings WHERE name = $1"
    if not (await bank.do(known, setting))[0]["n"]:
        pytest.skip(f"this server has no {setting}")
    ran: list[int] = []

    async def node(state: Any) -> Any:
        ran.append(1)
        step = current_step()
        first = await step.fetchval(BALANCE, 1)
        await until_its_session_is_gone(bank)
        second = await step.fetchval(BALANCE, 2)
        await until_its_session_is_gone(bank)
        step.stage(LOG, f"{first} {second}")
        return {"seen": [first, second]}

    url = limited(database_url, **{setting: "100ms"})
    async with TransactionalSaver.from_conn_string(url, hold_idle="forever", pool_min=0, pool_max=pool) as other:
        result = await transactional(chain(other, node)).ainvoke({"seen": []}, thread)
        assert result["seen"] == [100, 100]
    assert (ran, await bank.journal()) == ([1], ["100 100"])
    assert (await steps_of(saver, thread))[-1].drifts == 0


@pytest.mark.parametrize("pool", [1, 10])
async def test_a_staged_write_that_takes_too_long(
    pool: int, saver: TransactionalSaver, bank: Bank, database_url: str, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        current_step().stage(LOG, "x")
        current_step().stage("INSERT INTO journal (line) SELECT 'slow' FROM pg_sleep(600)")
        return {}

    url = limited(database_url, statement_timeout="300ms")
    async with TransactionalSaver.from_conn_string(url, pool_max=pool) as other:
        with pytest.raises(StagedWriteFailed, match="node") as caught:
            await transactional(chain(other, node)).ainvoke({"seen": []}, thread)
    assert caught.value.sqlstate == "57014"
    assert await bank.journal() == []


@pytest.mark.parametrize("pool", [1, 10])
async def test_a_commit_that_waits_too_long(
    pool: int, saver: TransactionalSaver, bank: Bank, database_url: str, thread: RunnableConfig
) -> None:
    """Somebody has the thread's row locked. Nothing of the super-step is there, and it can be gone on with."""
    locked, let_go = asyncio.Event(), asyncio.Event()

    async def lock() -> None:
        async with saver.transaction() as tx:
            await tx.execute("SELECT 1 FROM runtime.thread FOR UPDATE")
            locked.set()
            await let_go.wait()

    lockers: list[asyncio.Task[None]] = []

    async def node(state: Any) -> Any:
        current_step().stage(LOG, "x")
        if not lockers:
            lockers.append(asyncio.create_task(lock()))
        await locked.wait()
        return {"seen": [1]}

    url = limited(database_url, statement_timeout="300ms")
    async with TransactionalSaver.from_conn_string(url, pool_max=pool) as other:
        flow = transactional(chain(other, node))
        async with asyncio.timeout(60):
            with pytest.raises(DatabaseUnavailable, match="time limit"):
                await flow.ainvoke({"seen": []}, thread)
        let_go.set()
        await lockers[0]
        assert await bank.journal() == []
        assert (await flow.ainvoke(None, thread))["seen"] == [1]
    assert await bank.journal() == ["x"]
