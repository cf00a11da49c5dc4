"""Whole conversations: what is remembered, what tools do, who is asked, and what moves in between."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.load import dumpd

from superstep import OfflineReply, ToolCall, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.graphs import support
from superstep.graphs.support import agent, seed
from superstep.runtime.faults import ConfigError, InputInvalid
from tests.graphs.support.conftest import CANCELLED, GRINDER, KETTLE, LARGE, SMALL, TOTALS, refunded
from tests.support.desks import at, question

if TYPE_CHECKING:
    from superstep import OfflineRequest
    from tests.graphs.support.conftest import Desk

ADDRESS = "SELECT address FROM support.customer WHERE id = 'C-001'"
CLOSE = "UPDATE support.customer SET status = 'closed' WHERE id = 'C-001'"


async def test_setup_may_run_anywhere_any_number_of_times(database_url: str) -> None:
    async with (
        TransactionalSaver.from_conn_string(database_url) as first,
        TransactionalSaver.from_conn_string(database_url) as second,
    ):
        await first.setup()
        await asyncio.gather(*(support.setup(each) for each in (first, second) * 4))
        async with first.transaction() as tx:
            assert await tx.fetchval("SELECT count(*) FROM support.customer") == len(seed.customers())
            assert await tx.fetchval("SELECT count(*) FROM support.article") == len(seed.ARTICLES)


async def test_the_example(desk: Desk) -> None:
    out = await desk.flow.ainvoke(support.example_input, at("t"))
    assert out["reply"] == f"Remembered: prefers answers by e-mail\n{refunded(KETTLE)}"
    assert await desk.refunds() == [(KETTLE, TOTALS[KETTLE])]
    assert await desk.balance() == TOTALS[KETTLE]
    assert await desk.memories() == ["prefers answers by e-mail"]
    assert desk.asked == 2
    json.dumps(dumpd(out))


async def test_a_second_message_shows_memory_and_articles(desk: Desk) -> None:
    await desk.write("I prefer answers by e-mail.")
    out = await desk.write("How do I descale a kettle?")
    assert seed.ARTICLES["descaling"] in out["reply"]
    assert "I remember: prefers answers by e-mail." in out["reply"]
    assert [each.type for each in out["messages"]] == ["human", "ai", "tool", "ai", "human", "ai"]


async def test_memory_is_the_customer_s_in_every_conversation_and_nobody_else_s(desk: Desk) -> None:
    await desk.write("I prefer answers by e-mail.")
    assert "prefers" in (await desk.write("When does it arrive?", "another"))["reply"]
    assert "prefers" not in (await desk.write("When does it arrive?", "of another", "C-002"))["reply"]


async def test_what_is_said_twice_is_one_memory(desk: Desk) -> None:
    for thread in ("a", "a", "b"):
        await desk.write("I prefer answers by e-mail.", thread)
    assert await desk.memories() == ["prefers answers by e-mail"]


async def test_orders_are_looked_up_and_an_address_is_changed(desk: Desk) -> None:
    assert '"item": "grinder"' in (await desk.write("Where is my order?"))["reply"]
    out = await desk.write("My new address is: Oak Street 5.")
    assert out["reply"] == "[offline] The address is now: Oak Street 5"
    assert await desk.sql(ADDRESS) == "Oak Street 5"


async def test_a_closed_account_keeps_its_address_and_gets_no_refund(desk: Desk) -> None:
    before = await desk.sql(ADDRESS)
    await desk.sql(CLOSE)
    assert "account is closed" in (await desk.write("My new address is: Oak Street 5."))["reply"]
    assert "the account is closed" in (await desk.refund(SMALL))["reply"]
    assert (await desk.sql(ADDRESS), await desk.refunds()) == (before, [])


@pytest.mark.parametrize(
    ("order", "why"), [(CANCELLED, "cancelled"), ("O-2001", "no such order"), ("O-99", "no such order")]
)
async def test_what_is_not_refunded(desk: Desk, order: str, why: str) -> None:
    """Another customer's order is not there, whatever the model calls for."""
    assert why in (await desk.refund(order))["reply"]
    assert await desk.refunds() == []


async def test_several_refunds_of_one_message_end_one_by_one(desk: Desk) -> None:
    out = await desk.refund(SMALL, CANCELLED, KETTLE)
    assert out["reply"].splitlines() == [
        refunded(SMALL),
        f"Order {CANCELLED} is not refunded: it was cancelled, and not charged.",
        refunded(KETTLE),
    ]
    assert await desk.balance() == TOTALS[SMALL] + TOTALS[KETTLE]
    assert desk.asked == 1


async def test_a_large_refund_takes_a_supervisor(desk: Desk) -> None:
    asked = question(await desk.refund(LARGE))
    assert (asked["refund"]["order_id"], asked["refunded_this_year"], asked["facts_changed"]) == (LARGE, 0, False)
    assert await desk.refunds() == []
    assert "not understood" in question(await desk.say(approved="yes"))["problem"]  # type: ignore[arg-type]
    assert "whose it is" in question(await desk.say(by=" "))["problem"]
    assert (await desk.say())["reply"] == refunded(LARGE)
    assert await desk.sql("SELECT approved_by FROM support.refund") == "S-eli"
    assert desk.asked == 1


async def test_a_supervisor_declines(desk: Desk) -> None:
    await desk.refund(LARGE, SMALL)
    reply = (await desk.say(approved=False))["reply"].splitlines()
    assert reply == [f"Order {LARGE} is not refunded: a supervisor has declined it.", refunded(SMALL)]
    assert await desk.refunds() == [(SMALL, TOTALS[SMALL])]


async def test_a_balance_that_has_moved_is_asked_about_again(desk: Desk) -> None:
    await desk.refund(LARGE)
    await desk.refund(SMALL, thread="another")
    asked = question(await desk.say())
    assert (asked["facts_changed"], asked["refunded_this_year"]) == (True, TOTALS[SMALL])
    assert (await desk.say())["reply"] == refunded(LARGE)
    assert desk.asked == 2


async def test_an_order_that_has_moved_is_asked_about_again(desk: Desk) -> None:
    await desk.refund(LARGE)
    await desk.sql("UPDATE support.purchase SET total = 50000 WHERE id = $1", LARGE)
    asked = question(await desk.say())
    assert (asked["facts_changed"], asked["refund"]["amount"]) == (True, 500_00)
    await desk.say()
    assert await desk.refunds() == [(LARGE, 500_00)]


async def test_an_order_that_has_become_small_needs_no_answer(desk: Desk) -> None:
    await desk.refund(LARGE)
    await desk.sql("UPDATE support.purchase SET total = 5000 WHERE id = $1", LARGE)
    assert "refunded: 50.00" in (await desk.say())["reply"]
    assert await desk.sql("SELECT approved_by FROM support.refund") is None


@pytest.mark.parametrize(
    ("move", "why"),
    [
        (CLOSE, "the account is closed"),
        (f"UPDATE support.purchase SET status = 'cancelled' WHERE id = '{LARGE}'", "cancelled"),
        ("UPDATE support.customer SET refund_cap = 63999 WHERE id = 'C-001'", "exceeds"),
        (f"INSERT INTO support.refund VALUES ('{LARGE}', 1, '', NULL, 'elsewhere')", "refunded already"),
    ],
)
async def test_what_must_not_be_paid_any_more_when_the_answer_comes(desk: Desk, move: str, why: str) -> None:
    await desk.refund(LARGE)
    before = await desk.sql("SELECT count(*) FROM support.refund")
    await desk.sql(move)
    assert why in (await desk.say())["reply"]
    assert await desk.balance() == 0
    assert await desk.sql("SELECT count(*) FROM support.refund WHERE thread_id = 't'") == before == 0


async def test_what_no_decision_rests_on_may_move(desk: Desk) -> None:
    await desk.refund(LARGE)
    await desk.sql("UPDATE support.customer SET address = 'moved' WHERE id = 'C-001'")
    assert (await desk.say())["reply"] == refunded(LARGE)


async def test_the_yearly_limit(desk: Desk) -> None:
    await desk.refund(LARGE)
    await desk.say()
    await desk.refund(GRINDER)
    await desk.say()
    assert await desk.balance() == 950_00
    assert refunded(KETTLE) in (await desk.refund(KETTLE))["reply"]
    assert "exceeds" in (await desk.refund(SMALL))["reply"]
    assert await desk.balance() == 999_00


async def test_a_model_that_claims_what_is_not_done_is_not_passed_on(desk: Desk) -> None:
    def boasting(request: OfflineRequest) -> Any:
        if request.messages[-1].type == "tool":
            return f"Order {SMALL} is refunded: 24.00."
        calls = [ToolCall("refund_order", {"order_id": CANCELLED, "reason": "x"}), ToolCall("look_up_orders")]
        return OfflineReply(text=f"Order {SMALL} is refunded: 24.00.", tool_calls=calls)

    desk.rule = boasting
    out = await desk.write("Money!")
    assert out["reply"] == f"Order {CANCELLED} is not refunded: it was cancelled, and not charged."
    assert out["messages"][-1].text == out["reply"]
    assert await desk.refunds() == []


async def test_a_call_without_its_arguments_is_no_wish(desk: Desk) -> None:
    def careless(request: OfflineRequest) -> Any:
        if request.messages[-1].type == "tool":
            return "Which order?"
        return OfflineReply(tool_calls=[ToolCall("refund_order", {"order_id": SMALL})])

    desk.rule = careless
    out = await desk.write("Money!")
    assert (out["wishes"], await desk.refunds()) == ([], [])


async def test_a_conversation_is_one_customer_s(desk: Desk) -> None:
    await desk.write("Hello")
    with pytest.raises(InputInvalid, match="C-001"):
        await desk.write("Hello", who="C-002")


async def test_the_customer_writes_again_while_a_supervisor_thinks(desk: Desk) -> None:
    """The refund is not forgotten, and asking for it again is the same wish."""
    await desk.refund(LARGE)
    out = await desk.write("How do I descale a kettle?")
    assert seed.ARTICLES["descaling"] in out["reply"]
    assert question(out)["refund"]["order_id"] == LARGE
    out = await desk.refund(SMALL, LARGE)
    assert [wish["order_id"] for wish in out["wishes"]] == [LARGE, SMALL]
    out = await desk.say()
    assert out["reply"].splitlines() == [refunded(LARGE), refunded(SMALL)]
    assert await desk.balance() == TOTALS[LARGE] + TOTALS[SMALL]
    assert desk.asked == 3


@pytest.mark.parametrize("wrong", [{"customer_id": "C-999"}, {"message": " "}, {"message": 1}, {"customer_id": None}])
async def test_input_that_is_not_possible(desk: Desk, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputInvalid):
        await desk.flow.ainvoke({"customer_id": "C-001", "message": "Hello", **wrong}, at("t"))


async def test_a_graph_without_the_saver_s_store_says_so(desk: Desk) -> None:
    flow: Any = transactional(support.graph.compile(checkpointer=desk.saver))
    with pytest.raises(ConfigError, match=r"saver\.store"):
        await flow.ainvoke(support.example_input, at("t"))


async def test_without_langchain_it_says_what_to_install(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"superstep-runtime\[agents\]"):
        await support.setup(desk.saver)
