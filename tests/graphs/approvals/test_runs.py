"""Whole runs of the approvals flow: who is asked, what moves in between, and what runs again for it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer import TransactionalSaver
from superstep.graphs import approvals
from superstep.graphs.approvals import seed
from superstep.runtime.faults import InputInvalid
from tests.graphs.approvals.conftest import NEW_ACCOUNT, ONE, TWO
from tests.support.desks import question

if TYPE_CHECKING:
    from tests.graphs.approvals.conftest import Desk

OLD_ACCOUNT = seed.vendors()[0][3]
AGE = "UPDATE approvals.screening SET screened_at = screened_at - interval '2 days'"


async def test_setup_may_run_anywhere_any_number_of_times(database_url: str) -> None:
    async with (
        TransactionalSaver.from_conn_string(database_url) as first,
        TransactionalSaver.from_conn_string(database_url) as second,
    ):
        await first.setup()
        await asyncio.gather(*(approvals.setup(each) for each in (first, second) * 4))
        async with first.transaction() as tx:
            assert await tx.fetchval("SELECT count(*) FROM approvals.vendor") == len(seed.vendors())


async def test_the_example_takes_two_people(desk: Desk) -> None:
    request = approvals.example_input()
    asked = question(await desk.ask(request))
    assert (asked["may_answer"], asked["approved_by"], asked["facts_changed"]) == (
        ["E-ana", "E-bo", "E-cem"],
        [],
        False,
    )
    asked = question(await desk.say("E-ana"))
    assert (asked["may_answer"], asked["approved_by"]) == (["E-bo", "E-cem"], ["E-ana"])
    out = await desk.say("E-bo")
    assert out["outcome"]["status"] == "paid"
    assert out["outcome"]["approved_by"] == ["E-ana", "E-bo"]
    assert await desk.payments() == [(request["invoice"], OLD_ACCOUNT, request["amount"])]
    assert (desk.written, desk.service.requests) == (1, 1)
    json.dumps(out)


async def test_a_small_amount_takes_one_and_reduces_the_budget(desk: Desk) -> None:
    await desk.ask(ONE)
    assert (await desk.say("E-cem"))["outcome"]["status"] == "paid"
    assert await desk.spent() == ONE["amount"]


async def test_the_same_person_does_not_count_twice_nor_who_requested_it(desk: Desk) -> None:
    await desk.ask(TWO)
    await desk.say("E-ana")
    for nobody in ("E-ana", "E-kim", "E-who"):
        assert "may not approve" in question(await desk.say(nobody))["problem"]
    assert await desk.payments() == []
    assert (await desk.say("E-cem"))["outcome"]["status"] == "paid"


async def test_nobody_approves_more_than_they_may(desk: Desk) -> None:
    asked = question(await desk.ask({**TWO, "amount": 30_000_00}))
    assert asked["may_answer"] == ["E-ana", "E-bo"]


async def test_a_rejection_ends_it(desk: Desk) -> None:
    await desk.ask(TWO)
    out = await desk.say("E-bo", approved=False)
    assert out["outcome"]["status"] == "rejected"
    assert (await desk.payments(), await desk.spent()) == ([], 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vendor_id": "V-002"}, "sanctions list"),
        ({"vendor_id": "V-003"}, "blocked"),
        ({"amount": 60_000_01}, "budget"),
    ],
)
async def test_what_must_not_be_paid_is_asked_of_nobody(desk: Desk, change: dict[str, object], reason: str) -> None:
    out = await desk.ask({**ONE, **change})
    assert out["outcome"]["status"] == "refused"
    assert reason in out["outcome"]["reason"]


async def test_an_invoice_that_was_paid_ends_at_once(desk: Desk) -> None:
    await desk.ask(ONE)
    await desk.say("E-ana")
    out = await desk.ask(ONE, "another thread")
    assert out["outcome"]["status"] == "paid_before"
    assert desk.written == 1


@pytest.mark.parametrize("change", [{"vendor_id": "V-999"}, {"budget_id": "none"}])
async def test_a_vendor_or_budget_that_is_not_there(desk: Desk, change: dict[str, str]) -> None:
    with pytest.raises(InputInvalid, match=next(iter(change.values()))):
        await desk.ask({**ONE, **change})


async def test_a_changed_bank_account_is_screened_written_about_and_asked_about_again(desk: Desk) -> None:
    """Neither the first approval counts for the new account, nor the answer to the outdated question."""
    await desk.ask(TWO)
    await desk.say("E-ana")
    await desk.move_account()
    asked = question(await desk.say("E-bo"))
    assert (asked["facts_changed"], asked["approved_by"]) == (True, [])
    assert await desk.sql("SELECT array_agg(approver_id) FROM approvals.approval") == ["E-ana"]
    assert NEW_ACCOUNT in asked["question"]
    assert OLD_ACCOUNT in asked["risks"][0]
    assert (desk.written, len(desk.service.screenings)) == (2, 2)
    assert question(await desk.say("E-bo"))["facts_changed"]  # who is next may have approved the old account
    assert await desk.payments() == []
    assert (await desk.say("E-ana"))["outcome"]["status"] == "paid"
    assert await desk.payments() == [("INV-1", NEW_ACCOUNT, TWO["amount"])]
    assert (desk.written, len(desk.service.screenings)) == (2, 2)


async def test_a_vendor_that_is_blocked_meanwhile_is_not_paid(desk: Desk) -> None:
    await desk.ask(ONE)
    await desk.sql("UPDATE approvals.vendor SET status = 'blocked' WHERE id = 'V-001'")
    out = await desk.say("E-ana")
    assert out["outcome"]["status"] == "refused"
    assert await desk.payments() == []


async def test_what_no_decision_rests_on_may_move(desk: Desk) -> None:
    """Another phone number, and a budget that others spend from as long as there is room: the answer counts."""
    await desk.ask(ONE)
    await desk.sql("UPDATE approvals.vendor SET phone = '555' WHERE id = 'V-001'")
    await desk.sql("UPDATE approvals.budget SET spent = spent + 100 WHERE id = 'workshop'")
    assert (await desk.say("E-ana"))["outcome"]["status"] == "paid"
    assert (desk.written, desk.service.requests) == (1, 1)
    assert await desk.spent() == ONE["amount"] + 100


async def test_a_budget_that_is_used_up_meanwhile(desk: Desk) -> None:
    await desk.ask(ONE)
    await desk.sql("UPDATE approvals.budget SET spent = total WHERE id = 'workshop'")
    out = await desk.say("E-ana")
    assert (out["outcome"]["status"], await desk.payments()) == ("refused", [])


async def test_who_loses_the_right_to_approve_before_the_answer(desk: Desk) -> None:
    await desk.ask(ONE)
    await desk.sql("UPDATE approvals.approver SET up_to = 0 WHERE id = 'E-ana'")
    asked = question(await desk.say("E-ana"))
    assert (asked["facts_changed"], asked["may_answer"]) == (True, ["E-bo", "E-cem"])


async def test_a_screening_that_is_too_old_is_made_again_and_nothing_else(desk: Desk) -> None:
    await desk.ask(ONE)
    await desk.sql(AGE)
    out = await desk.say("E-ana")
    assert out["outcome"]["status"] == "paid"
    assert (desk.written, len(desk.service.screenings), desk.service.requests) == (1, 2, 2)


async def test_a_vendor_that_was_screened_lately_is_not_screened_again(desk: Desk) -> None:
    await desk.ask(ONE)
    await desk.ask({**ONE, "invoice": "INV-2"}, "another")
    assert desk.service.requests == 1
