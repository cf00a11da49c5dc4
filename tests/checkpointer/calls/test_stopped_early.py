"""A call of a model whose facts a commit of the same process has moved is cancelled, not paid."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy

from superstep import transactional
from superstep.checkpointer import current_step
from superstep.checkpointer.calls import records
from superstep.checkpointer.database import failpoints
from superstep.providers import chat_model
from tests.checkpointer.calls.vendor import calls
from tests.checkpointer.shared.plans import TOTAL
from tests.support.bank import BALANCE, SET
from tests.support.graphs import State, chain, fan, steps_of
from tests.support.vendors import answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank
    from tests.support.vendors import Vendor

    Ask = Callable[[int], Awaitable[int]]

AT_LEAST_10 = "SELECT balance >= 10 FROM account WHERE id = 1"


async def directly(balance: int) -> int:
    return int((await chat_model("r").ainvoke(f"draw how much of {balance}?")).text)


async def in_a_group(balance: int) -> int:
    return (await asyncio.gather(directly(balance), asyncio.sleep(0)))[0]


async def in_a_subgraph(balance: int) -> int:
    async def ask(state: Any) -> Any:
        return {"seen": [await directly(balance)]}

    return int((await chain(None, ask).ainvoke({"seen": []}))["seen"][0])


async def under_a_time_limit(balance: int) -> int:
    async with asyncio.timeout(60):
        return await directly(balance)


def drawing(saver: Any, ask: Ask = directly, **options: Any) -> Any:
    async def draw(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        amount = await ask(balance)
        current_step().stage(SET, balance - amount, 1)
        return {"seen": [balance]}

    builder = StateGraph(State).add_node("draw", draw, **options).add_edge(START, "draw")
    return transactional(builder.compile(checkpointer=saver))


async def asked(vendor: Vendor, number: int, state: str) -> None:
    await vendor.until(lambda: vendor.count > number and vendor.requests[number].state == state)


@pytest.mark.parametrize("stream_mode", ["values", "messages"])
@pytest.mark.parametrize("ask", [directly, in_a_group, in_a_subgraph, under_a_time_limit])
@pytest.mark.parametrize("hold_idle", [0, 0.25])
async def test_a_commit_stops_what_thinks_on_the_facts_it_has_moved(
    ask: Ask,
    stream_mode: Any,
    saver: TransactionalSaver,
    bank: Bank,
    vendor: Vendor,
    new_thread: Callable[[], RunnableConfig],
) -> None:
    never = threading.Event()
    piecemeal = answer("1 " * 1000).slow(token=0.001) if stream_mode == "messages" else answer("1").stall(until=never)
    vendor.script(piecemeal).always(answer("1"))
    thread = new_thread()

    async def think() -> None:
        async for _ in drawing(saver, ask).astream({"seen": []}, thread, stream_mode=stream_mode):
            pass

    waiting = asyncio.create_task(think())
    await vendor.until(lambda: vendor.count == 1)
    await drawing(saver).ainvoke({"seen": []}, new_thread())
    await asked(vendor, 0, "gone")
    await waiting
    assert (vendor.count, await bank.balance()) == (3, 98)
    record = (await steps_of(saver, thread))[-1]
    assert (record.attempts, record.drifts) == (2, 1)
    never.set()


async def test_what_was_stopped_is_recorded_although_the_run_goes_on_under_another_token(
    saver: TransactionalSaver,
    bank: Bank,
    vendor: Vendor,
    new_thread: Callable[[], RunnableConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record is stored in the background, and comes when the flow is through."""
    never, late, thread = threading.Event(), asyncio.Event(), new_thread()
    record = records._record

    async def held(task: Any, row: Any) -> None:
        if row.outcome != "answered":
            await late.wait()
        await record(task, row)

    monkeypatch.setattr(records, "_record", held)
    vendor.script(answer("1").stall(until=never)).always(answer("1"))
    waiting = asyncio.create_task(drawing(saver).ainvoke({"seen": []}, thread))
    await asked(vendor, 0, "stalled")
    await drawing(saver).ainvoke({"seen": []}, new_thread())
    await waiting
    late.set()
    async with asyncio.timeout(20):
        while len(found := await calls(saver, thread)) < 2:
            pass
    assert sorted(call["outcome"] for call in found) == ["answered", "failed"]


async def test_an_update_of_a_shared_value_stops_what_thinks_on_it(
    saver: TransactionalSaver, vendor: Vendor, new_thread: Callable[[], RunnableConfig]
) -> None:
    """Whoever merges has not read it."""
    never = threading.Event()
    vendor.script(answer("1").stall(until=never)).always(answer("1"))

    async def think(state: Any) -> Any:
        total = await current_step().shared(TOTAL.name, "p")
        await directly(total)
        return {"seen": [total]}

    async def add(state: Any) -> Any:
        current_step().reduce(TOTAL.name, "p", 5)
        return {}

    waiting = asyncio.create_task(transactional(chain(saver, think)).ainvoke({"seen": []}, new_thread()))
    await asked(vendor, 0, "stalled")
    await transactional(chain(saver, add)).ainvoke({}, new_thread())
    await asked(vendor, 0, "gone")
    assert (await waiting)["seen"] == [5]
    never.set()


async def test_a_retry_policy_does_not_take_it_for_a_failure(
    saver: TransactionalSaver, bank: Bank, vendor: Vendor, new_thread: Callable[[], RunnableConfig]
) -> None:
    never = threading.Event()
    vendor.script(answer("1").stall(until=never)).always(answer("1"))
    flow = drawing(saver, retry_policy=RetryPolicy(max_attempts=5, initial_interval=0))
    waiting = asyncio.create_task(flow.ainvoke({"seen": []}, new_thread()))
    await asked(vendor, 0, "stalled")
    await drawing(saver).ainvoke({"seen": []}, new_thread())
    assert (await waiting)["seen"] == [99]
    assert (vendor.count, await bank.balance()) == (3, 98)
    never.set()


async def test_calls_on_facts_that_hold_go_on(
    saver: TransactionalSaver, bank: Bank, vendor: Vendor, new_thread: Callable[[], RunnableConfig]
) -> None:
    """Another row, a condition that is as it was, and no facts at all."""
    until = threading.Event()

    async def other(state: Any) -> Any:
        return {"seen": [await directly(await current_step().fetchval(BALANCE, 2))]}

    async def same(state: Any) -> Any:
        return {"seen": [await directly(await current_step().fetchval(AT_LEAST_10))]}

    async def none(state: Any) -> Any:
        return {"seen": [await directly(1)]}

    async def condition(state: Any) -> Any:
        await current_step().fetchval(AT_LEAST_10)
        current_step().stage(SET, 50, 1)
        return {}

    vendor.script(*[answer("1").stall(until=until)] * 3).always(answer("1"))
    flows = [transactional(chain(saver, node)) for node in (other, same, none)]
    waiting = [asyncio.create_task(flow.ainvoke({"seen": []}, new_thread())) for flow in flows]
    await vendor.until(lambda: [each.state for each in vendor.requests] == ["stalled"] * 3)
    await transactional(chain(saver, condition)).ainvoke({"seen": []}, new_thread())
    await drawing(saver).ainvoke({"seen": []}, new_thread())
    await saver.database.home.settle()
    until.set()
    await asyncio.gather(*waiting)
    assert [each.state for each in vendor.requests] == ["answered"] * 4


async def test_a_siblings_call_is_not_cut_off(
    saver: TransactionalSaver, bank: Bank, vendor: Vendor, new_thread: Callable[[], RunnableConfig]
) -> None:
    until = threading.Event()

    async def draw(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage(SET, balance - await directly(balance), 1)
        return {"seen": [balance]}

    async def sibling(state: Any) -> Any:
        return {"seen": [(await chat_model("r").ainvoke("beside")).text]}

    def stalls(request: Any) -> Any:
        return answer("1").stall(until=until)

    vendor.script(stalls, stalls).always(answer("1"))
    waiting = asyncio.create_task(transactional(fan(saver, draw, sibling)).ainvoke({"seen": []}, new_thread()))
    await vendor.until(lambda: [each.state for each in vendor.requests] == ["stalled"] * 2)
    await drawing(saver).ainvoke({"seen": []}, new_thread())
    await vendor.until(lambda: "gone" in [each.state for each in vendor.requests])
    until.set()
    assert (await waiting)["seen"] == [99, "1"]
    besides = [each.state for each in vendor.requests if "beside" in str(each.body)]
    assert besides == ["answered"]


async def test_an_answer_that_has_come_is_kept(
    saver: TransactionalSaver, bank: Bank, vendor: Vendor, new_thread: Callable[[], RunnableConfig]
) -> None:
    """Its facts move while it is stored. It is paid, and a node that asks the same again has it."""
    vendor.always(answer("1"))
    moves = iter([True])

    async def move() -> None:
        if next(moves, False):
            await drawing(saver).ainvoke({"seen": []}, new_thread())
            await saver.database.home.settle()

    async def draw(state: Any) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage(SET, balance - await directly(0), 1)
        return {"seen": [balance]}

    failpoints.arm("memo.before_store", move)
    async with asyncio.timeout(30):
        result = await transactional(chain(saver, draw)).ainvoke({"seen": []}, new_thread())
    assert result["seen"] == [99]
    assert vendor.count == 2
