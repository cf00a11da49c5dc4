"""Reads and updates that more than one node makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage

if TYPE_CHECKING:
    from superstep import Step
    from superstep.graphs.support.state import Refund, State

__all__ = ["money", "refundable", "refunded_in", "settled"]


async def refundable(step: Step, customer_id: str, order_id: str, year: int) -> Refund | str:
    """The refund of an order as it may be paid now, or why it may not.

    Each read is a fact of the node that asks. The limit is a condition: other refunds change nothing while there is
    room for this one.
    """
    order = await step.fetchrow(
        "SELECT item, total, status FROM support.purchase WHERE id = $1 AND customer_id = $2", order_id, customer_id
    )
    if order is None:
        return "there is no such order of yours"
    if await step.fetchval("SELECT EXISTS (SELECT FROM support.refund WHERE order_id = $1)", order_id):
        return "it has been refunded already"
    if order["status"] == "cancelled":
        return "it was cancelled, and not charged"
    if await step.fetchval("SELECT status FROM support.customer WHERE id = $1", customer_id) != "open":
        return "the account is closed"
    room = await step.fetchval(
        "SELECT coalesce((SELECT refunded FROM support.refund_year WHERE customer_id = c.id AND year = $2), 0) + $3 "
        "<= refund_cap FROM support.customer c WHERE id = $1",
        customer_id,
        year,
        order["total"],
    )
    if not room:
        return "it exceeds what may be refunded in a year"
    return {
        "order_id": order_id,
        "item": order["item"],
        "order_status": order["status"],
        "amount": order["total"],
        "year": year,
    }


async def refunded_in(step: Step, customer_id: str, year: int) -> int:
    """What the customer has been refunded in a year, in cents."""
    sql = "SELECT refunded FROM support.refund_year WHERE customer_id = $1 AND year = $2"
    return await step.fetchval(sql, customer_id, year) or 0


def settled(state: State, sentence: str) -> dict[str, Any]:
    """Tell the customer how the first wish ended, and take the next one up.

    The sentence is committed together with what the same node has staged.
    """
    reply = f"{state.get('reply', '')}\n{sentence}".strip()
    done = {"refund": None, "approval": None, "facts_changed": False}
    return {**done, "wishes": state["wishes"][1:], "messages": [AIMessage(sentence)], "reply": reply}


def money(cents: int) -> str:
    """An amount as people read it."""
    return f"{cents / 100:,.2f}"
