"""What a drifted caller has left is taken back as a whole, with what its subgraphs have stored on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.threads.pending_writes import PendingWrites
from superstep.checkpointer.threads.queries import running
from superstep.runtime.faults import StaleRun
from tests.support.bank import BALANCE, LOG, Bank
from tests.support.graphs import chain, config_of, fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


async def pay(state: Any) -> Any:
    current_step().stage(LOG, f"paid {state['bag']['amount']}")
    return {}


async def call_with(inner: Any) -> Any:
    balance = await current_step().fetchval(BALANCE, 1)
    await inner.ainvoke({"n": balance})
    return {"seen": [balance]}


@pytest.mark.parametrize("hold_idle", [0, 0.25])
async def test_a_connection_lost_while_a_caller_is_taken_back(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what it has read and what its subgraph has stored on that: the subgraph must not go on from there."""
    lost: list[str] = []
    original = running.nested_domain_writes

    async def plan(state: Any) -> Any:
        return {"bag": {"amount": state["n"]}}

    async def moved(state: Any) -> Any:
        await bank.set(30)
        return {}

    async def lose_it(conn: Any, *args: Any) -> int:
        if not lost:
            lost.append("lost")
            conn.terminate()
            raise asyncpg.ConnectionDoesNotExistError
        return await original(conn, *args)

    async def call(state: Any) -> Any:
        return await call_with(chain(None, plan, moved, pay))

    monkeypatch.setattr(running, "nested_domain_writes", lose_it)
    await transactional(chain(saver, call)).ainvoke({"seen": []}, thread)
    assert lost
    assert await bank.journal() == ["paid 30"]


@pytest.mark.parametrize("hold_idle", [0])
async def test_a_process_that_stops_when_a_caller_has_drifted_while_its_subgraph_commits(
    saver: TransactionalSaver, bank: Bank, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sibling finds out that the caller's facts have moved when the subgraph's commit has looked at the caller. The
    commit stores what it rests on, or is refused: else another process would go on from it.
    """
    found_out, told, stopped, go_on = (asyncio.Event() for _ in range(4))
    withdraw = PendingWrites.withdraw

    async def withdrawn(self: PendingWrites, what: Any) -> None:
        told.set()
        await withdraw(self, what)

    async def stop() -> None:
        stopped.set()
        await go_on.wait()

    async def drift() -> None:
        failpoints.disarm("commit.validated")
        await bank.set(30)
        found_out.set()
        await told.wait()
        failpoints.arm("commit.committed", stop)

    def graph(saver: Any) -> Any:
        async def look(state: Any) -> Any:
            await current_step().fetchval(BALANCE, 2)
            if state["n"] == 100 and not found_out.is_set():
                failpoints.arm("commit.validated", drift)
            return {"bag": {"amount": state["n"]}}

        async def call(state: Any) -> Any:
            return await call_with(chain(None, look, pay))

        async def other(state: Any) -> Any:
            await found_out.wait()
            return {"seen": [await current_step().fetchval(BALANCE, 2)]}

        return transactional(fan(saver, call, other))

    monkeypatch.setattr(PendingWrites, "withdraw", withdrawn)
    run = asyncio.create_task(graph(saver).ainvoke({"seen": []}, config_of("t")))
    await stopped.wait()
    failpoints.disarm("commit.committed")
    async with TransactionalSaver.from_conn_string(database_url) as second:
        await graph(second).ainvoke(None, config_of("t"))
    paid = await bank.journal()
    go_on.set()
    with pytest.raises(StaleRun):
        await run
    assert paid == await bank.journal() == ["paid 30"]
