"""Reads that more than one node makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep import InputInvalid
from superstep.graphs.underwriting import limits

if TYPE_CHECKING:
    from superstep import Step
    from superstep.graphs.underwriting.state import Application, Decision

__all__ = ["has_room", "open_part", "recorded_decision"]


async def recorded_decision(step: Step, application: Application) -> Decision | None:
    """Return the committed decision of an application. An application is decided once.

    Raises:
        InputInvalid: The application's id belongs to an application for another account.
    """
    row = await step.fetchrow(
        "SELECT application_id, account_id, outcome, amount, reasons, policies, reviewed FROM underwriting.decision "
        "WHERE application_id = $1",
        application["id"],
    )
    if row is None:
        return None
    if row["account_id"] != application["account_id"]:
        raise InputInvalid(f"Application {application['id']!r} is of another account. Use a new 'application_id'.")
    return {
        "application_id": row["application_id"],
        "outcome": row["outcome"],
        "amount": row["amount"],
        "reasons": list(row["reasons"]),
        "policies": list(row["policies"]),
        "reviewed": row["reviewed"],
        "recorded": True,
    }


async def open_part(step: Step, line_id: str | None) -> int:
    """Return what can still be drawn on a credit line, in cents, in this step's snapshot."""
    if line_id is None:
        return 0
    row = await step.fetchrow("SELECT credit_limit, drawn FROM underwriting.credit_line WHERE id = $1", line_id)
    return 0 if row is None else limits.room(row["credit_limit"], row["drawn"])


async def has_room(step: Step, line_id: str | None, amount: int) -> bool:
    """Whether an amount, in cents, can still be drawn on a credit line.

    This is the fact, not what is drawn: other draws that leave room enough do not make the task run again.
    """
    return bool(
        await step.fetchval(
            "SELECT drawn + $2 <= credit_limit FROM underwriting.credit_line WHERE id = $1", line_id, amount
        )
    )
