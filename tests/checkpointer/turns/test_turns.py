"""Flows that collide take turns: every decision is made at most twice, and once where it is known to be contended."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ConflictExhausted, StepConflict
from superstep.runtime.flow.retry import Settings
from tests.support.bank import BALANCE, Bank
from tests.support.graphs import State, chain, fan, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

SET = "UPDATE account SET balance = $1 WHERE id = $2"


class Contention:
    """Flows of a node that reads accounts in an order, meets all others the first time, and draws 1 from each."""

    def __init__(self, many: int) -> None:
        self.ran = 0
        self._all_have_read = asyncio.Barrier(many)

    def flow(self, saver: TransactionalSaver, *accounts: int, meets: bool = True) -> Any:
        async def draw(state: Any) -> Any:
            self.ran += 1
            step = current_step()
            balances = [await step.fetchval(BALANCE, account) for account in accounts]
            if meets and self.ran <= self._all_have_read.parties:
                await self._all_have_read.wait()
            for account, balance in zip(accounts, balances, strict=True):
                step.stage(SET, balance - 1, account, expect_rows=1)
            return {"seen": balances}

        return transactional(chain(saver, draw))


async def run_all(flows: list[Any], new_thread: Callable[[], RunnableConfig]) -> list[RunnableConfig]:
    threads = [new_thread() for _ in flows]
    async with asyncio.timeout(60):
        await asyncio.gather(*(flow.ainvoke({"seen": []}, thread) for flow, thread in zip(flows, threads, strict=True)))
    return threads


@pytest.mark.parametrize("hold_idle", [0, 0.25, "forever"])
async def test_who_has_drifted_takes_turns_and_who_comes_later_takes_them_at_once(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    contention = Contention(8)
    flow = contention.flow(saver, 1)
    threads = await run_all([flow] * 8, new_thread)
    assert await bank.balance() == 92
    assert contention.ran == 8 + 7
    records = [(await steps_of(saver, thread))[-1] for thread in threads]
    assert sorted((record.attempts, record.escalated) for record in records) == [(1, False), *[(2, True)] * 7]
    assert all((record.waited_ms > 0) == record.escalated for record in records)

    contention.ran = 8
    await run_all([flow] * 8, new_thread)
    assert await bank.balance() == 84
    assert contention.ran == 8 + 8  # the key is hot: nobody read it before it was their turn


async def test_a_pool_of_one_will_do(
    database_url: str, saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, pool_max=1) as one:
        contention = Contention(6)
        await run_all([contention.flow(one, 1)] * 6, new_thread)
    assert await bank.balance() == 94
    assert contention.ran == 6 + 5


async def test_two_rows_in_opposite_orders_in_two_processes(
    database_url: str, saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """Each waits in the order of the keys, or not at all: nobody for one who waits for it."""
    contention = Contention(8)
    async with AsyncExitStack() as stack:
        savers = [await stack.enter_async_context(TransactionalSaver.from_conn_string(database_url)) for _ in range(2)]
        flows = [contention.flow(savers[n % 2], *((1, 2) if n < 4 else (2, 1))) for n in range(8)]
        for _ in range(3):
            await run_all(flows, new_thread)
    assert [await bank.balance(1), await bank.balance(2)] == [76, 76]


async def test_subgraphs_share_the_turns_of_their_run(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    await run_all([Contention(4).flow(saver, 1)] * 4, new_thread)  # the key is hot now

    async def pay(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage(SET, balance - 1, 1)
        return {"seen": [balance]}

    agent = chain(None, pay)

    async def node(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        return {"seen": [balance, *(await agent.ainvoke({"seen": []}))["seen"]]}

    flow = transactional(chain(saver, node))
    await run_all([flow] * 4, new_thread)
    assert await bank.balance() == 92


async def test_a_run_that_a_node_waits_for_does_not_wait_for_its_turn(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    await run_all([Contention(4).flow(saver, 1)] * 4, new_thread)
    inner = Contention(1).flow(saver, 1, meets=False)

    async def node(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        if balance == 96:
            await inner.ainvoke({"seen": []}, new_thread())
        current_step().stage(SET, balance - 1, 1)
        return {"seen": [balance]}

    async with asyncio.timeout(20):
        result = await transactional(chain(saver, node)).ainvoke({"seen": []}, new_thread())
    assert result["seen"] == [95]


async def test_siblings_that_rest_on_each_others_writes_keep_their_turn(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """The second of them runs again. At the end of the line both would, since the others draw meanwhile."""
    await run_all([Contention(4).flow(saver, 1)] * 4, new_thread)  # the key is hot now
    ran = []

    async def draw(name: str) -> Any:
        ran.append(name)
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage(SET, balance - 1, 1)
        return {"seen": [balance]}

    async def one(state: Any) -> Any:
        return await draw("one")

    async def two(state: Any) -> Any:
        return await draw("two")

    flow = transactional(fan(saver, one, two))
    threads = await run_all([flow] * 16, new_thread)
    assert await bank.balance() == 96 - 32
    assert (ran.count("one"), ran.count("two")) == (16, 32)
    records = [(await steps_of(saver, thread))[-1] for thread in threads]
    assert {record.attempts for record in records} == {2}
    await saver.database.home.settle()
    assert await lines(bank) == 0


@pytest.mark.parametrize("hold_idle", [0, 0.25])
async def test_who_drifts_in_its_turn_is_next_again(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """A program beside takes no turns. What it moves is read again before all that wait."""
    await run_all([Contention(4).flow(saver, 1)] * 4, new_thread)
    came: list[str] = []
    first_has_read = asyncio.Event()

    def flow(name: str) -> Any:
        async def node(state: Any) -> Any:
            balance = await current_step().fetchval(BALANCE, 1)
            came.append(name)
            if came == ["first"]:
                first_has_read.set()
                async with asyncio.timeout(20):
                    while not await bank.do("SELECT FROM runtime.turn WHERE cardinality(queue) = 2"):
                        pass
                await bank.set(50)
            current_step().stage(SET, balance - 1, 1)
            return {"seen": [balance]}

        return transactional(chain(saver, node))

    first = asyncio.create_task(flow("first").ainvoke({"seen": []}, new_thread()))
    await first_has_read.wait()
    second = await flow("second").ainvoke({"seen": []}, new_thread())
    assert (await first)["seen"] == [50]
    assert second["seen"] == [49]
    assert came == ["first", "first", "second"]


async def test_a_turn_is_not_kept_for_an_attempt_that_does_not_come(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    await run_all([Contention(4).flow(saver, 1)] * 4, new_thread)

    async def node(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        await bank.set(50)
        current_step().stage(SET, balance - 1, 1)
        return {"seen": [balance]}

    with pytest.raises(ConflictExhausted):
        await transactional(chain(saver, node), settings=Settings(max_attempts=1)).ainvoke({"seen": []}, new_thread())
    await saver.database.home.settle()
    assert await lines(bank) == 0

    def leave(conflict: StepConflict) -> None:
        raise RuntimeError("gone")

    flow = transactional(chain(saver, node))
    flow.on_conflict = leave
    await bank.set(60)
    with pytest.raises(RuntimeError, match="gone"):
        await flow.ainvoke({"seen": []}, new_thread())
    await saver.database.home.settle()
    assert await lines(bank) == 0


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("how", ["asks", "fails"])
async def test_who_cannot_commit_gives_its_turn_back(
    wrap: bool, how: str, saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    await run_all([Contention(4).flow(saver, 1)] * 4, new_thread)

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        if how == "fails":
            raise ValueError(how)
        return {"seen": [interrupt("sure?")]}

    graph = chain(saver, node)
    thread = new_thread()
    try:
        await (transactional(graph) if wrap else graph).ainvoke({"seen": []}, thread)
    except ValueError:
        assert how == "fails"
    async with asyncio.timeout(20):
        await run_all([Contention(1).flow(saver, 1)], new_thread)
    if how == "asks":  # the answer was about a balance that has moved
        result = await (transactional(graph) if wrap else graph).ainvoke(Command(resume="yes"), thread) if wrap else {}
        assert not wrap or "__interrupt__" in result


async def lines(bank: Bank) -> int:
    return int((await bank.do("SELECT count(*) AS n FROM runtime.turn"))[0]["n"])


async def test_a_subgraph_that_leaves_to_its_parent_leaves_its_turn(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    await run_all([Contention(4).flow(saver, 1)] * 4, new_thread)

    async def hands_off(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        return Command(graph=Command.PARENT, goto="after", update={"seen": ["handed off"]})

    async def after(state: Any) -> Any:
        return {"seen": ["after"]}

    inner = StateGraph(State).add_node("hands_off", hands_off).add_edge(START, "hands_off").compile()
    builder = StateGraph(State).add_node("inner", inner).add_node("after", after).add_edge(START, "inner")
    await transactional(builder.compile(checkpointer=saver)).ainvoke({"seen": []}, new_thread())
    await saver.database.home.settle()
    assert await lines(bank) == 0


async def test_a_key_that_is_only_read_cools_down_at_once(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """It has moved once, from outside. Readers must not queue for it as long as there are readers."""
    await run_all([Contention(2).flow(saver, 1)] * 2, new_thread)
    meet = asyncio.Barrier(8)

    async def look(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        async with asyncio.timeout(20):
            await meet.wait()  # all of them have read
        return {"seen": [balance]}

    for _ in range(2):
        await transactional(Contention(1).flow(saver, 2, meets=False)).ainvoke({"seen": []}, new_thread())

    async def glance(state: Any) -> Any:
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    for _ in range(2):
        await transactional(chain(saver, glance)).ainvoke({"seen": []}, new_thread())
    await run_all([transactional(chain(saver, look))] * 8, new_thread)


async def test_runs_that_never_say_that_they_are_over_take_no_turns(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    await run_all([Contention(4).flow(saver, 1)] * 4, new_thread)
    begun = asyncio.Event()

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        begun.set()
        await asyncio.Event().wait()

    left = asyncio.create_task(chain(saver, node).ainvoke({"seen": []}, new_thread()))
    await begun.wait()
    left.cancel()
    await asyncio.wait([left])
    await run_all([Contention(1).flow(saver, 1)], new_thread)
    assert await bank.balance() == 95


async def test_runs_that_start_one_another_for_ever_are_no_ever_longer_chain(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    await run_all([Contention(2).flow(saver, 1)] * 2, new_thread)
    depths: list[int] = []
    last = asyncio.Event()

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 2)
        holder, depth = current_step()._step.owner.holder, 0
        while holder is not None:
            holder, depth = holder.within, depth + 1
        depths.append(depth)
        if len(depths) == 12:
            last.set()
        else:
            later.append(asyncio.create_task(flow.ainvoke({"seen": []}, new_thread())))
        return {}

    flow = transactional(chain(saver, node))
    later = [asyncio.create_task(flow.ainvoke({"seen": []}, new_thread()))]
    await last.wait()
    for each in later:
        await each
    assert max(depths) <= 4


async def test_closing_waits_for_nobody_who_waits_for_a_turn(
    database_url: str, saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(TransactionalSaver.from_conn_string(database_url))
        await run_all([Contention(2).flow(other, 1)] * 2, new_thread)
        begun = asyncio.Event()

        async def node(state: Any) -> Any:
            await current_step().fetchval(BALANCE, 1)
            begun.set()
            await asyncio.Event().wait()

        flow = transactional(chain(other, node))
        waiting = [asyncio.create_task(flow.ainvoke({"seen": []}, new_thread())) for _ in range(4)]
        await begun.wait()
        async with asyncio.timeout(20):
            while not await bank.do("SELECT 1 FROM runtime.turn WHERE cardinality(queue) = 4"):
                pass
    assert await lines(bank) == 0
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)


async def test_relative_writes_on_a_condition_take_no_turns(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    ran = 0
    meet = asyncio.Barrier(8)

    async def draw(state: Any) -> Any:
        nonlocal ran
        ran += 1
        step = current_step()
        enough = await step.fetchval("SELECT balance >= $2 FROM account WHERE id = $1", 1, 10)
        await step.fetchval(BALANCE, 1, validate=False)
        await meet.wait()
        step.stage("UPDATE account SET balance = balance - 1 WHERE id = 1")
        return {"seen": [enough]}

    threads = await run_all([transactional(chain(saver, draw))] * 8, new_thread)
    assert (ran, await bank.balance()) == (8, 92)
    assert not any([(await steps_of(saver, thread))[-1].escalated for thread in threads])


async def test_a_write_that_touched_too_few_rows_waits_for_its_turn_next_time(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """What it had read still held: `expect_rows` is the whole condition."""
    ran = 0

    async def draw(state: Any) -> Any:
        nonlocal ran
        ran += 1
        if ran == 2:
            await bank.set(50)
        await current_step().fetchval("SELECT 1")
        current_step().stage(SET + " AND balance = 50", 1, 1, expect_rows=1)
        return {}

    builder = StateGraph(State).add_node("draw", draw).add_edge(START, "draw")
    await transactional(builder.compile(checkpointer=saver)).ainvoke({"seen": []}, thread)
    assert (ran, await bank.balance()) == (2, 1)
    assert (await steps_of(saver, thread))[-1].escalated
