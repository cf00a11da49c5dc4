"""A call whose super-step conflicted goes on only if its thread is still its own."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.threads.queries import running
from superstep.checkpointer.threads.registry import Registry
from superstep.runtime.faults import StaleRun
from tests.support.bank import BALANCE, DEBIT
from tests.support.graphs import chain
from tests.support.race import Race

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

    Happens = Callable[[TransactionalSaver, RunnableConfig], Coroutine[Any, Any, Any]]


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[TransactionalSaver]:
    """Another process, as far as the database can tell."""
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        yield saver


def flow_of(saver: TransactionalSaver, decides: Callable[[], Awaitable[Any]] | None = None) -> Any:
    """Two super-steps that debit. Something happens while the second one decides."""

    async def first(state: Any) -> Any:
        current_step().stage(DEBIT, 1)
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        seen = await current_step().fetchval(BALANCE, 1)
        if decides is not None:
            await decides()
        current_step().stage(DEBIT, 1)
        return {"seen": [seen]}

    return transactional(chain(saver, first, second))


async def runs_to_its_end(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    await flow_of(saver).ainvoke(None, thread)


async def begins_to_run(saver: TransactionalSaver, thread: RunnableConfig) -> Callable[[], Awaitable[Any]]:
    """And is in the middle of its super-step when the other one wants to go on. What is returned lets it end."""
    under_way, may_end = asyncio.Event(), asyncio.Event()

    async def decides() -> None:
        under_way.set()
        await may_end.wait()

    run = asyncio.create_task(flow_of(saver, decides).ainvoke(None, thread))
    await under_way.wait()

    async def end() -> None:
        may_end.set()
        assert (await run)["seen"] == ["first", 50]

    return end


async def is_updated(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    await flow_of(saver).aupdate_state(thread, {"seen": ["from outside"]})


async def is_deleted(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    await saver.adelete_thread(thread["configurable"]["thread_id"])


@pytest.mark.parametrize(
    ("happens", "seen", "balance"),
    [
        (runs_to_its_end, ["first", 50], 49),
        (begins_to_run, ["first"], 50),
        (is_updated, ["first", "from outside"], 50),
        (is_deleted, None, 50),
    ],
)
async def test_a_thread_that_was_taken_or_changed_between_two_attempts_is_not_taken_back(
    saver: TransactionalSaver,
    elsewhere: TransactionalSaver,
    bank: Bank,
    thread: RunnableConfig,
    monkeypatch: pytest.MonkeyPatch,
    happens: Happens,
    seen: Any,
    balance: int,
) -> None:
    rest, end, still, left = None, Registry.end, [happens], [50]

    async def moves() -> None:
        if left:
            await bank.set(left.pop())

    async def ends(self: Registry, key: object) -> None:
        nonlocal rest
        await end(self, key)
        if self is saver.runs and still:
            rest = await asyncio.create_task(still.pop()(elsewhere, thread), context=Context())

    monkeypatch.setattr(Registry, "end", ends)
    with pytest.raises(StaleRun):
        await flow_of(saver, moves).ainvoke({"seen": []}, thread)
    state = await flow_of(elsewhere).aget_state(thread)
    assert state.values.get("seen") == seen
    assert await bank.balance() == balance
    assert len(await bank.do("SELECT FROM runtime.thread")) == (seen is not None)
    if rest is not None:
        await rest()
        assert await bank.balance() == balance - 1


@pytest.mark.parametrize("conflicts", [0, 1])
async def test_nor_is_what_another_run_did_the_outcome_of_one_that_lost_the_thread_before_it_saw_it(
    saver: TransactionalSaver,
    elsewhere: TransactionalSaver,
    bank: Bank,
    thread: RunnableConfig,
    conflicts: int,
) -> None:
    claims, left = 0, [50] * conflicts

    async def moves() -> None:
        if left:
            await bank.set(left.pop())

    async def claimed() -> None:
        nonlocal claims
        claims += 1
        if claims == 1 + conflicts:
            failpoints.disarm("run.claimed")
            await asyncio.create_task(runs_to_its_end(elsewhere, thread), context=Context())

    await flow_of(saver).aupdate_state(thread, {"seen": ["given"]}, as_node="__start__")
    failpoints.arm("run.claimed", claimed)
    with pytest.raises(StaleRun):
        await flow_of(saver, moves).ainvoke(None, thread)
    assert claims == 1 + conflicts
    assert len((await flow_of(elsewhere).aget_state(thread)).values["seen"]) == 3


@pytest.mark.parametrize("times", [1, 2])
async def test_a_claim_whose_answer_was_lost_is_its_own(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    race, claim, left = Race(bank, 50, 40), running.claim_again, [None] * times

    async def loses(conn: Any, *args: Any) -> Any:
        row = await claim(conn, *args)
        if left:
            left.pop()
            conn.terminate()
            await conn.execute("SELECT 1")
        return row

    async def node(state: Any) -> Any:
        return {"n": await race.decide()}

    monkeypatch.setattr(running, "claim_again", loses)
    assert (await transactional(chain(saver, node)).ainvoke({"seen": []}, thread))["n"] == 40
    assert (race.seen, left, await bank.balance()) == ([100, 50, 40], [], 39)
