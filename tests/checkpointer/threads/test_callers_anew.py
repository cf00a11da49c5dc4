"""A caller that did not end is started anew by the next run, and its subgraph goes on from what is committed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from asyncpg.transaction import Transaction
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.threads.queries import running
from tests.support.bank import BALANCE, LOG, SET, Bank
from tests.support.graphs import chain, config_of, fan
from tests.support.race import Race

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.runnables import RunnableConfig


class Stops(Exception):
    """What a node fails with."""


def agent(stop: Callable[[], Awaitable[None]], ran: list[str], *, kept: bool, levels: int) -> Any:
    """A graph that plans, is stopped once, and pays what it has planned."""

    async def plan(state: Any) -> Any:
        ran.append(f"plan {state['n']}")
        return {"bag": {"amount": state["n"]}}

    async def pay(state: Any) -> Any:
        await stop()
        current_step().stage(LOG, f"paid {state['bag']['amount']}")
        return {}

    graph = chain(True if kept else None, plan, pay)
    if levels == 1:
        return graph

    async def between(state: Any) -> Any:
        await graph.ainvoke({"n": state["n"]})
        return {}

    return chain(None, between)


def calling(inner: Any, ran: list[str]) -> Any:
    async def call(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        ran.append(f"call {balance}")
        await inner.ainvoke({"n": balance})
        return {"seen": [balance]}

    return call


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("hold_idle", [0, 0.25])
async def test_a_subgraph_goes_on_after_an_error_only_if_what_it_was_called_on_holds(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, kept: bool, levels: int, moves: bool
) -> None:
    ran: list[str] = []
    stopped: list[int] = []

    async def stop() -> None:
        if not stopped:
            stopped.append(1)
            raise Stops

    flow = transactional(chain(saver, calling(agent(stop, ran, kept=kept, levels=levels), ran)))
    with pytest.raises(Stops):
        await flow.ainvoke({"seen": []}, thread)
    if moves:
        await bank.set(30)
    await flow.ainvoke(None, thread)
    assert await bank.journal() == ["paid 30" if moves else "paid 100"]
    assert ran == ["call 100", "plan 100", *(["call 30", "plan 30"] if moves else ["call 100"])]


async def test_a_subgraph_goes_on_in_another_process_only_if_what_it_was_called_on_holds(
    saver: TransactionalSaver, bank: Bank, database_url: str
) -> None:
    ran: list[str] = []
    there = asyncio.Event()

    async def stop() -> None:
        if not there.is_set():
            there.set()
            await asyncio.Event().wait()

    node = calling(agent(stop, ran, kept=False, levels=1), ran)
    run = asyncio.create_task(transactional(chain(saver, node)).ainvoke({"seen": []}, config_of("t")))
    await there.wait()
    run.cancel()
    await asyncio.wait([run])
    await bank.set(30)
    async with TransactionalSaver.from_conn_string(database_url) as other:
        await transactional(chain(other, node)).ainvoke(None, config_of("t"))
    assert await bank.journal() == ["paid 30"]


async def test_what_a_subgraph_was_called_on_goes_only_together_with_what_it_has_stored(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run finds that its caller's facts have moved, and dies while it takes back what rests on them."""
    ran: list[str] = []
    stops, forget = [Stops, Stops], running.forget_nested

    async def stop() -> None:
        if len(stops) == 2:
            raise stops.pop()

    async def dies(conn: Any, *args: Any) -> None:
        if stops:
            raise stops.pop()
        await forget(conn, *args)

    flow = transactional(chain(saver, calling(agent(stop, ran, kept=False, levels=1), ran)))
    with pytest.raises(Stops):
        await flow.ainvoke({"seen": []}, thread)
    await bank.set(30)
    monkeypatch.setattr(running, "forget_nested", dies)
    with pytest.raises(Stops):
        await flow.ainvoke(None, thread)
    await flow.ainvoke(None, thread)
    assert stops == []
    assert await bank.journal() == ["paid 30"]


async def test_what_is_not_taken_back_leaves_no_transaction_open(
    saver: TransactionalSaver,
    bank: Bank,
    thread: RunnableConfig,
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
) -> None:
    """A run is cancelled when the server has begun the transaction, and that is not told yet."""
    begin, left = Transaction.start, [Stops]

    async def start(self: Transaction) -> None:
        await begin(self)
        if self._isolation == "read_committed" and left:
            raise left.pop()

    async def only(state: Any) -> Any:
        seen = await race.read()
        current_step().stage(SET, seen - 1, 1)
        current_step().stage(LOG, f"{seen}")
        return {}

    race = Race(bank, 30)
    monkeypatch.setattr(Transaction, "start", start)
    flow = transactional(chain(saver, only))
    with pytest.raises(Stops):
        await flow.ainvoke({"seen": []}, thread)
    assert left == []
    with psycopg.connect(database_url) as connection:
        open_ones = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state ~ 'idle in'"
        assert connection.execute(open_ones).fetchone() == (0,)
    await flow.ainvoke(None, thread)
    assert await bank.journal() == ["30"]


async def test_what_a_subgraph_itself_has_written_is_no_change_for_the_next_run(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    ran: list[str] = []

    async def draw(state: Any) -> Any:
        ran.append("draw")
        current_step().stage("UPDATE account SET balance = balance - 70 WHERE id = 1")
        return {}

    async def tell(state: Any) -> Any:
        ran.append("tell")
        if ran.count("tell") == 1:
            raise Stops
        current_step().stage(LOG, "told")
        return {}

    flow = transactional(chain(saver, calling(chain(None, draw, tell), ran)))
    with pytest.raises(Stops):
        await flow.ainvoke({"seen": []}, thread)
    await flow.ainvoke(None, thread)
    assert ran == ["call 100", "draw", "tell", "call 30", "tell"]
    assert await bank.journal() == ["told"]
    assert await bank.balance() == 30


@pytest.mark.parametrize("asks", [False, True])
async def test_a_kept_subgraph_is_called_again_by_a_caller_that_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, asks: bool
) -> None:
    """It has a history of earlier calls: that is none of this call, which has left nothing."""

    async def note(state: Any) -> Any:
        return {"seen": [interrupt(state["n"]) if asks else state["n"]]}

    inner = chain(True, note)
    race = Race(bank, 30)

    async def call(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        out = await inner.ainvoke({"n": balance})
        if state["n"] == 2:
            await race.move()
        current_step().stage("UPDATE account SET note = 'x' WHERE id = 1")
        return {"bag": {"history": list(out["seen"])}}

    flow = transactional(chain(saver, call))
    for turn in (1, 2):
        out = await flow.ainvoke({"n": turn}, thread)
        while "__interrupt__" in out:
            (question,) = out["__interrupt__"]
            out = await flow.ainvoke(Command(resume=question.value), thread)
    assert out["bag"]["history"] == [100, 30]


async def test_a_caller_whose_agent_would_commit_on_top_of_a_sibling_runs_before_it(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    ran: list[str] = []

    async def a(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage("UPDATE account SET balance = $1 WHERE id = 1", balance - 10)
        return {}

    async def write(state: Any) -> Any:
        current_step().stage(LOG, "written")
        return {}

    async def b(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        ran.append(f"b {balance}")
        if balance < 100:
            await chain(None, write).ainvoke({})
        return {}

    await transactional(fan(saver, a, b)).ainvoke({"seen": []}, thread)
    assert ran == ["b 100", "b 90", "b 100"]  # on what is committed, and so before its sibling
    assert await bank.journal() == []
    assert await bank.balance() == 90
