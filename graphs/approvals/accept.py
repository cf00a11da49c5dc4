"""First node: check the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.types import Command

from superstep import InputInvalid, current_step
from superstep.graphs.approvals.records import end, is_paid, vendor_of

if TYPE_CHECKING:
    from superstep.graphs.approvals.state import Request, State

__all__ = ["accept", "read_request"]


async def accept(state: State) -> Command[str]:
    """Take the request in, or end at once if the invoice has been paid before.

    Raises:
        InputInvalid: The request is malformed, or names a vendor or a budget that does not exist.
    """
    request, step = read_request(state), current_step()
    if await is_paid(step, request):
        return end("paid_before", "This invoice has been paid.", request=request)
    await vendor_of(step, request)
    if not await step.fetchval("SELECT EXISTS (SELECT FROM approvals.budget WHERE id = $1)", request["budget_id"]):
        raise InputInvalid(f"There is no budget {request['budget_id']!r}. Example budgets: operations, marketing.")
    # What an earlier request left on this thread is cleared.
    fresh = {"vendor": None, "case": None, "facts_changed": False, "outcome": None}
    return Command(update={"request": request, **fresh}, goto="screen")


def read_request(state: State) -> Request:
    """Check the input and complete it.

    Raises:
        InputInvalid: A field is missing or has an impossible value.
    """
    words = {}
    for name in ("vendor_id", "invoice", "budget_id", "requested_by"):
        value = state.get(name)
        if not isinstance(value, str) or not value:
            raise InputInvalid(f"The input needs {name!r}, a text; it is {value!r}.")
        words[name] = value
    amount = state.get("amount")
    if isinstance(amount, bool) or not isinstance(amount, int) or amount <= 0:
        raise InputInvalid(f"The input needs 'amount', a positive number of cents; it is {amount!r}.")
    return {
        "vendor_id": words["vendor_id"],
        "invoice": words["invoice"],
        "budget_id": words["budget_id"],
        "amount": amount,
        "purpose": state.get("purpose") or "not stated",
        "requested_by": words["requested_by"],
    }
