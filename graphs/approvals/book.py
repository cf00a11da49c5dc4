"""Last node: everything that the payment rests on is asked once more, in the transaction that pays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.types import Command

from superstep import current_step
from superstep.graphs.approvals.approve import needed
from superstep.graphs.approvals.records import approvers_of, end, has_room, is_paid, latest_screening, vendor_of

if TYPE_CHECKING:
    from superstep.graphs.approvals.state import State

__all__ = ["book"]

PAY = "INSERT INTO approvals.payment (vendor_id, invoice, budget_id, bank_account, amount) VALUES ($1, $2, $3, $4, $5)"
ADD = "UPDATE approvals.vendor SET paid = paid + $2 WHERE id = $1"
SPEND = "UPDATE approvals.budget SET spent = spent + $2 WHERE id = $1"


async def book(state: State) -> Command[str]:
    """Pay, or go back to what has moved since it was looked at. What has not moved is not run again.

    The budget is a condition and a relative write: payments from one budget pass each other as long as all of them fit.

    Why the vendor's row is written, too: of a payment that only reads it and a change of its bank account that only
    writes it, serializable means that one came first, not which. The payment could be committed a moment after the
    change and still count as the one before it. Both write the row, so whoever commits second has seen the first.

    May run many times; nothing but the staged writes of the last time takes effect.
    """
    step, request, vendor = current_step(), state["request"], state["vendor"]
    assert vendor is not None  # noqa: S101 - `screen` is the only way here
    if await is_paid(step, request):
        return end("paid_before", "This invoice has been paid meanwhile.")
    if await vendor_of(step, request) != vendor:
        return Command(update={"facts_changed": True}, goto="screen")
    screening = await latest_screening(step, request, vendor)
    if not (screening and screening["clear"] and screening["counts"]):
        return Command(goto="screen")
    approved_by = await approvers_of(step, request, vendor)
    if len(approved_by) < needed(request["amount"]):
        return Command(goto="approve")
    if not await has_room(step, request):
        return end("refused", "The budget has no room for it any more.")
    budget, amount = request["budget_id"], request["amount"]
    step.stage(PAY, request["vendor_id"], request["invoice"], budget, vendor["bank_account"], amount, expect_rows=1)
    step.stage(SPEND, budget, amount, expect_rows=1)
    step.stage(ADD, request["vendor_id"], amount, expect_rows=1)
    paid = f"{amount / 100:,.2f} paid to {vendor['bank_account']}."
    return end("paid", paid, approved_by=approved_by)
