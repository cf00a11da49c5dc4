"""Reads that more than one node makes. Each says one thing that a decision rests on, and no more.

None of these nodes trusts what an earlier super-step has read: two super-steps are two transactions, and between them
may lie hours. What was read then is in the state; what is read here joins the facts of the node that asks.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from langgraph.types import Command

from superstep import InputInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep import Step
    from superstep.graphs.approvals.state import Outcome, Request, Status, Vendor

__all__ = ["approvers_of", "end", "has_room", "is_paid", "latest_screening", "vendor_of"]

MAX_AGE = timedelta(hours=24)


async def vendor_of(step: Step, request: Request) -> Vendor:
    """The vendor's record, as far as payments rest on it.

    Raises:
        InputInvalid: There is no such vendor.
    """
    row = await step.fetchrow(
        "SELECT name, status, bank_account FROM approvals.vendor WHERE id = $1", request["vendor_id"]
    )
    if row is None:
        raise InputInvalid(f"There is no vendor {request['vendor_id']!r}. Example vendors: V-001 to V-040.")
    return {"name": row["name"], "status": row["status"], "bank_account": row["bank_account"]}


async def latest_screening(step: Step, request: Request, vendor: Vendor) -> Any:
    """The latest screening of this record (`id`, `clear`, and whether it still `counts`), or `None`.

    The moment is an argument, so that the read can be validated: with `now()` it would say something else each time.
    """
    return await step.fetchrow(
        "SELECT id, clear, screened_at > $4 AS counts FROM approvals.screening "
        "WHERE vendor_id = $1 AND name = $2 AND bank_account = $3 ORDER BY screened_at DESC LIMIT 1",
        request["vendor_id"],
        vendor["name"],
        vendor["bank_account"],
        datetime.now(UTC) - MAX_AGE,
    )


async def approvers_of(step: Step, request: Request, vendor: Vendor) -> list[str]:
    """Who has approved this amount to this bank account, in whichever thread, but for who requested it in this one.

    Approvals of an amount or an account that has changed since are not among them.
    """
    rows = await step.fetch(
        "SELECT approver_id FROM approvals.approval WHERE vendor_id = $1 AND invoice = $2 AND bank_account = $3 "
        "AND amount = $4 AND approver_id <> $5 ORDER BY approved_at, approver_id",
        request["vendor_id"],
        request["invoice"],
        vendor["bank_account"],
        request["amount"],
        request["requested_by"],
    )
    return [row["approver_id"] for row in rows]


async def has_room(step: Step, request: Request) -> bool:
    """Whether the budget has room for the request: a condition, so that others may spend as long as it is true."""
    return bool(
        await step.fetchval(
            "SELECT spent + $2 <= total FROM approvals.budget WHERE id = $1", request["budget_id"], request["amount"]
        )
    )


async def is_paid(step: Step, request: Request) -> bool:
    """Whether the invoice has been paid, by whichever run."""
    return bool(
        await step.fetchval(
            "SELECT EXISTS (SELECT FROM approvals.payment WHERE vendor_id = $1 AND invoice = $2)",
            request["vendor_id"],
            request["invoice"],
        )
    )


def end(status: Status, reason: str, *, approved_by: Sequence[str] = (), **update: Any) -> Command[str]:
    """End the run with an outcome."""
    outcome: Outcome = {"status": status, "reason": reason, "approved_by": list(approved_by)}
    return Command(update={**update, "outcome": outcome}, goto="__end__")
