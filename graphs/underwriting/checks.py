"""The checks, side by side in one super-step, and the policy lookup after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep import InputInvalid, current_step
from superstep.graphs.underwriting.bureau import bureau_url, fetch_report

if TYPE_CHECKING:
    from superstep.graphs.underwriting.state import State

__all__ = ["bureau", "exposure", "identity", "policy"]

PASSAGES = 4


async def identity(state: State) -> dict[str, Any]:
    """Read who the applicant is.

    Raises:
        InputInvalid: The account was deleted after the plan was made.
    """
    account_id = state["application"]["account_id"]
    row = await current_step().fetchrow(
        "SELECT p.kyc_status, p.sanctioned FROM underwriting.account a "
        "JOIN underwriting.applicant p ON p.id = a.applicant_id WHERE a.id = $1",
        account_id,
    )
    if row is None:
        raise InputInvalid(f"There is no account {account_id!r} any more.")
    return {"identity": {"kyc_status": row["kyc_status"], "sanctioned": row["sanctioned"]}}


async def bureau(state: State) -> dict[str, Any]:
    """Ask the credit bureau. The call may be repeated when the step is.

    Raises:
        BureauUnavailable: The bureau did not answer.
        BureauRejected: The bureau refused the question.
    """
    national_id = await current_step().fetchval(
        "SELECT p.national_id FROM underwriting.account a "
        "JOIN underwriting.applicant p ON p.id = a.applicant_id WHERE a.id = $1",
        state["application"]["account_id"],
    )
    return {"bureau": await fetch_report(bureau_url(), national_id)}


async def exposure(state: State) -> dict[str, Any]:
    """Read the room on the credit line and everything the customer owes.

    Runs again when a later step finds that the line no longer has room for what was decided.
    """
    step, application = current_step(), state["application"]
    line = await step.fetchrow(
        "SELECT id, credit_limit, drawn FROM underwriting.credit_line WHERE account_id = $1 AND product = $2",
        application["account_id"],
        application["product"],
    )
    owed = await step.fetchval(
        "SELECT coalesce(sum(amount), 0)::bigint FROM underwriting.exposure WHERE account_id = $1",
        application["account_id"],
    )
    return {
        "exposure": {
            "line_id": line["id"] if line else None,
            "credit_limit": line["credit_limit"] if line else 0,
            "drawn": line["drawn"] if line else 0,
            "obligations": owed,
        }
    }


async def policy(state: State) -> dict[str, Any]:
    """Search the credit policy for the plan's question."""
    rows = await current_step().nearest(
        "underwriting.policy",
        text=state["plan"]["policy_question"],
        k=PASSAGES,
        where="product IN ($1, 'any')",
        args=[state["application"]["product"]],
    )
    # Six digits are plenty to show, and keep the state free of digits that only rounding decides.
    found = [{"id": row["id"], "content": row["content"], "distance": round(row["distance"], 6)} for row in rows]
    return {"passages": found}
