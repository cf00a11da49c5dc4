"""What a refund rests on: the order, the account and the yearly limit, as they are now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langgraph.types import Command

from superstep import current_step
from superstep.graphs.support.records import refundable, settled

if TYPE_CHECKING:
    from superstep.graphs.support.state import State

__all__ = ["REVIEW_FROM", "assess"]

REVIEW_FROM = 100_00


async def assess(state: State) -> Command[str]:
    """Turn the next wish into a refund, or refuse it; end when there is none left.

    `pay` is guarded on `refund`: all that is read here holds when it is paid, or this node runs again.
    """
    if not state["wishes"]:
        return Command(goto="__end__")
    order_id = state["wishes"][0]["order_id"]
    found = await refundable(current_step(), state["customer"]["id"], order_id, datetime.now(UTC).year)
    if isinstance(found, str):
        return Command(update=settled(state, f"Order {order_id} is not refunded: {found}."), goto="assess")
    before, approval = state.get("refund"), state.get("approval")
    changed = state.get("facts_changed", False) or (before is not None and before != found)
    # An approval of this very refund still stands.
    approved = approval is not None and approval["refund"] == found
    goto = "review" if found["amount"] >= REVIEW_FROM and not approved else "pay"
    return Command(update={"refund": found, "facts_changed": changed}, goto=goto)
