"""Conversations that meet. Each race is forced: all have read when the first of them commits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import OfflineReply, ToolCall, transactional
from superstep.graphs.support import flow, tools
from superstep.graphs.support.pay import pay
from tests.graphs.support.conftest import KETTLE, LARGE, SMALL, TOTALS, refunded
from tests.support.desks import first_time_in_a_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from superstep import OfflineRequest
    from tests.graphs.support.conftest import Desk

THREADS = [f"t{n}" for n in range(16)]


def after_pay(desk: Desk, monkeypatch: pytest.MonkeyPatch, then: Callable[[], Awaitable[Any]]) -> None:
    """Have something happen between what `pay` has read and staged, and its commit."""
    monkeypatch.setattr(flow, "pay", first_time_in_a_thread(pay, then))
    desk.flow = transactional(flow.build().compile(checkpointer=desk.saver, store=desk.saver.store))


def after_tool(monkeypatch: pytest.MonkeyPatch, tool: Any, then: Callable[[], Awaitable[Any]]) -> None:
    monkeypatch.setattr(tool, "coroutine", first_time_in_a_thread(tool.coroutine, then))


async def told(desk: Desk, outs: list[Any]) -> None:
    """Whoever reads that an order is refunded has the refund, and nobody else has one."""
    for thread, out in zip(THREADS, outs, strict=False):
        paid = await desk.sql("SELECT array_agg(order_id) FROM support.refund WHERE thread_id = $1", thread)
        said = [line.split()[1] for line in out["reply"].splitlines() if " is refunded: " in line]
        assert said == (paid or [])


async def test_an_order_in_sixteen_conversations_at_once_is_refunded_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_pay(desk, monkeypatch, asyncio.Barrier(len(THREADS)).wait)
    outs = await asyncio.gather(*(desk.refund(SMALL, thread=each) for each in THREADS))
    assert sorted(out["reply"] for out in outs)[-1] == refunded(SMALL)
    assert [out["reply"] for out in outs].count(f"Order {SMALL} is not refunded: it has been refunded already.") == 15
    assert (await desk.refunds(), await desk.balance()) == ([(SMALL, TOTALS[SMALL])], TOTALS[SMALL])
    await told(desk, outs)
    assert desk.asked == 16


async def with_orders(desk: Desk, cap: int) -> list[str]:
    """As many orders of 10.00 as there are threads."""
    orders = [f"O-90{n:03}" for n in range(len(THREADS))]
    async with desk.saver.transaction() as tx:
        insert = "INSERT INTO support.purchase VALUES ($1, 'C-001', 'cup', 1000, 'delivered')"
        await tx.executemany(insert, [(each,) for each in orders])
        await tx.execute("UPDATE support.customer SET refund_cap = $1 WHERE id = 'C-001'", cap)
    return orders


async def test_refunds_at_once_never_exceed_the_yearly_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = await with_orders(desk, cap=59_99)
    after_pay(desk, monkeypatch, asyncio.Barrier(len(THREADS)).wait)
    outs = await asyncio.gather(*(desk.refund(order, thread=t) for order, t in zip(orders, THREADS, strict=True)))
    assert len([out for out in outs if "exceeds" in out["reply"]]) == 11
    assert (len(await desk.refunds()), await desk.balance()) == (5, 50_00)
    await told(desk, outs)
    assert desk.asked == 16


async def test_refunds_that_have_room_pass_each_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them runs anything twice: the limit is a condition, and it stays true."""
    orders = await with_orders(desk, cap=160_00)
    after_pay(desk, monkeypatch, asyncio.Barrier(len(THREADS)).wait)
    outs = await asyncio.gather(*(desk.refund(order, thread=t) for order, t in zip(orders, THREADS, strict=True)))
    assert await desk.balance() == 160_00
    await told(desk, outs)
    for each in THREADS:
        (paid,) = [step for step in await desk.saver.asteps(each) if step.nodes == ["pay"]]
        assert paid.drifts == 0


@pytest.mark.parametrize(
    ("move", "why"),
    [
        ("UPDATE support.customer SET status = 'closed' WHERE id = 'C-001'", "account is closed"),
        ("UPDATE support.customer SET refund_cap = 0 WHERE id = 'C-001'", "exceeds"),
        (f"UPDATE support.purchase SET status = 'cancelled' WHERE id = '{SMALL}'", "cancelled"),
    ],
)
async def test_what_moves_while_it_is_paid(desk: Desk, monkeypatch: pytest.MonkeyPatch, move: str, why: str) -> None:
    after_pay(desk, monkeypatch, lambda: desk.sql(move))
    assert why in (await desk.refund(SMALL))["reply"]
    assert (await desk.refunds(), await desk.balance()) == ([], 0)
    assert desk.asked == 1


async def test_supervisors_of_two_conversations_about_one_order(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    after_pay(desk, monkeypatch, asyncio.Barrier(2).wait)
    await asyncio.gather(*(desk.refund(LARGE, thread=each) for each in THREADS[:2]))
    outs = await asyncio.gather(*(desk.say(thread=each) for each in THREADS[:2]))
    assert sorted("already" in out["reply"] for out in outs) == [False, True]
    assert await desk.refunds() == [(LARGE, TOTALS[LARGE])]
    await told(desk, outs)


async def test_one_turn_that_calls_everything_twice(desk: Desk) -> None:
    """The tools of a turn run side by side. Of what they do, nothing is doubled."""

    def twice(request: OfflineRequest) -> Any:
        if request.messages[-1].type == "tool":
            return "done"
        refund = ToolCall("refund_order", {"order_id": KETTLE, "reason": "broken"})
        likes = ToolCall("remember", {"preference": "prefers tea"})
        moved = [ToolCall("change_address", {"address": each}) for each in ("Oak Street 5", "Oak Street 6")]
        return OfflineReply(tool_calls=[refund, likes, moved[0], refund, likes, moved[1]])

    desk.rule = twice
    out = await desk.write("Everything!")
    assert out["reply"].splitlines()[-1] == refunded(KETTLE)
    assert out["reply"].count("is refunded") == 1
    assert await desk.refunds() == [(KETTLE, TOTALS[KETTLE])]
    assert await desk.memories() == ["prefers tea"]
    assert await desk.sql("SELECT address FROM support.customer WHERE id = 'C-001'") == "Oak Street 6"


async def test_a_preference_said_in_many_conversations_at_once_is_one_memory(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_tool(monkeypatch, tools.remember, asyncio.Barrier(8).wait)
    await asyncio.gather(*(desk.write("I prefer answers by e-mail.", each) for each in THREADS[:8]))
    assert await desk.memories() == ["prefers answers by e-mail"]
    assert desk.asked == 16


@pytest.mark.parametrize("desk", [0], indirect=True, ids=["nothing held"])
async def test_orders_that_move_while_they_are_looked_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool runs again, and no call of the model is paid again."""
    gone = "UPDATE support.purchase SET item = 'tea caddy' WHERE id = 'O-1001'"
    after_tool(monkeypatch, tools.look_up_orders, lambda: desk.sql(gone))
    out = await desk.write("Where is my order?")
    assert "tea caddy" in out["reply"]
    assert "teapot" not in out["reply"]
    assert desk.asked == 2


async def test_an_account_that_closes_while_its_address_changes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    close = "UPDATE support.customer SET status = 'closed' WHERE id = 'C-001'"
    after_tool(monkeypatch, tools.change_address, lambda: desk.sql(close))
    assert "Nothing was changed" in (await desk.write("My new address is: Oak Street 5."))["reply"]
    assert await desk.sql("SELECT address FROM support.customer WHERE id = 'C-001'") != "Oak Street 5"
