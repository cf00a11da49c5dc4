"""Requests that meet. Each race is forced: all have read when the first of them commits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from superstep.graphs.approvals import approve, book, screen
from tests.graphs.approvals.conftest import NEW_ACCOUNT, ONE, TWO
from tests.support.desks import at, meet_after, once_after, question

if TYPE_CHECKING:
    from tests.graphs.approvals.conftest import Desk


async def test_payments_that_are_approved_at_once_never_exceed_the_budget(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = [f"t{n}" for n in range(16)]
    await desk.sql("UPDATE approvals.budget SET spent = 0, total = $1 WHERE id = 'workshop'", 5 * ONE["amount"] + 1)
    await asyncio.gather(*(desk.ask({**ONE, "invoice": f"INV-{each}"}, each) for each in threads))
    meet_after(monkeypatch, book, "has_room", len(threads))
    outs = await asyncio.gather(*(desk.say("E-ana", each) for each in threads))
    assert sorted(out["outcome"]["status"] for out in outs) == ["paid"] * 5 + ["refused"] * 11
    assert len(await desk.payments()) == 5
    assert await desk.spent() == 5 * ONE["amount"]
    assert desk.written == len(threads)


async def test_payments_from_a_budget_with_room_pass_each_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them runs anything twice: the budget is a condition, and it stays true."""
    threads = [f"t{n}" for n in range(6)]
    requests = [{**ONE, "vendor_id": f"V-01{n}", "invoice": "INV-1"} for n in range(6)]
    await asyncio.gather(*(desk.ask(request, each) for request, each in zip(requests, threads, strict=True)))
    meet_after(monkeypatch, book, "has_room", len(threads))
    await asyncio.gather(*(desk.say("E-ana", each) for each in threads))
    assert await desk.spent() == 6 * ONE["amount"]
    for each in threads:
        (booked,) = [step for step in await desk.saver.asteps(each) if step.nodes == ["book"]]
        assert booked.drifts == 0


async def test_one_invoice_in_many_threads_is_paid_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = ["a", "b", "c"]
    await asyncio.gather(*(desk.ask(ONE, each) for each in threads))
    meet_after(monkeypatch, approve, "_may_answer", len(threads))
    outs = await asyncio.gather(
        *(desk.say(by, each) for by, each in zip(("E-ana", "E-bo", "E-cem"), threads, strict=True))
    )
    assert sorted(out["outcome"]["status"] for out in outs) == ["paid", "paid_before", "paid_before"]
    assert len(await desk.payments()) == 1
    assert await desk.spent() == ONE["amount"]


async def test_the_same_person_in_two_threads_at_once_counts_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.gather(*(desk.ask(TWO, each) for each in ("a", "b")))
    meet_after(monkeypatch, approve, "_may_answer", 2)
    outs = await asyncio.gather(*(desk.say("E-ana", each) for each in ("a", "b")))
    assert [question(out)["approved_by"] for out in outs] == [["E-ana"], ["E-ana"]]
    assert await desk.sql("SELECT count(*) FROM approvals.approval") == 1
    assert await desk.payments() == []
    assert (await desk.say("E-bo", "a"))["outcome"]["status"] == "paid"
    assert (await desk.say("E-cem", "b"))["outcome"]["status"] == "paid_before"


async def test_nobody_s_own_request_counts_with_their_approval_from_another_thread(desk: Desk) -> None:
    """One invoice, requested by each of two people in a thread of their own: neither approves what they asked for."""
    await desk.ask(TWO, "of kim")
    await desk.ask({**TWO, "requested_by": "E-ana"}, "of ana")
    assert question(await desk.say("E-kim", "of ana"))["approved_by"] == ["E-kim"]
    asked = question(await desk.say("E-ana", "of kim"))
    assert (asked["approved_by"], asked["may_answer"]) == (["E-ana"], ["E-bo", "E-cem"])
    assert await desk.payments() == []


@pytest.mark.parametrize("read", ["is_paid", "has_room"])
async def test_an_account_that_changes_while_it_is_booked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """Before the node reads the vendor, and after: it is asked about again, and the old account gets nothing."""
    await desk.ask(ONE)
    once_after(monkeypatch, book, read, desk.move_account)
    asked = question(await desk.say("E-ana"))
    assert asked["facts_changed"]
    assert NEW_ACCOUNT in asked["question"]
    assert (await desk.payments(), await desk.spent()) == ([], 0)
    assert (await desk.say("E-ana"))["outcome"]["status"] == "paid"
    assert await desk.payments() == [("INV-1", NEW_ACCOUNT, ONE["amount"])]


@pytest.mark.parametrize("desk", [0], indirect=True, ids=["nothing held"])
async def test_an_account_that_changes_during_the_external_call(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer about the old record is not kept; the node asks about the new one."""
    once_after(monkeypatch, screen, "screen_name", desk.move_account)
    asked = question(await desk.ask(ONE))
    assert NEW_ACCOUNT in asked["question"]
    assert len(desk.service.screenings) == 2
    assert await desk.sql("SELECT array_agg(bank_account) FROM approvals.screening") == [NEW_ACCOUNT]
    assert desk.written == 1


async def test_flows_that_screen_one_vendor_at_once_make_one_screening(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = [f"t{n}" for n in range(8)]
    meet_after(monkeypatch, screen, "latest_screening", len(threads))
    await asyncio.gather(*(desk.ask({**ONE, "invoice": f"INV-{each}"}, each) for each in threads))
    assert len(desk.service.screenings) == 1
    assert await desk.sql("SELECT count(*) FROM approvals.screening") == 1
    states = [await desk.flow.aget_state(at(each)) for each in threads]
    assert all(state.interrupts for state in states)
