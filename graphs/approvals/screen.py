"""An external call: ask the sanctions service about the vendor, unless it was asked lately."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from langgraph.types import Command

from superstep import current_step
from superstep.graphs.approvals.records import end, latest_screening, vendor_of
from superstep.graphs.approvals.sanctions import sanctions_url, screen_name

if TYPE_CHECKING:
    from superstep.graphs.approvals.state import State, Vendor

__all__ = ["identity", "screen"]

INSERT = "INSERT INTO approvals.screening (id, vendor_id, name, bank_account, clear) VALUES ($1, $2, $3, $4, $5)"


async def screen(state: State) -> Command[str]:
    """Screen the vendor as the record is now, and go on to whatever that leaves to do.

    The call is made while no connection is held, and may be made again: after a conflict, a crash, or by another flow
    at the same time. All of them ask under one identity, so for the service it is one question. What it answered is
    staged as a row, which commits only if the record that was asked about is still the vendor's.

    Raises:
        SanctionsUnavailable: The service did not answer.
        SanctionsRejected: The service refused the question.
    """
    step, request = current_step(), state["request"]
    vendor = await vendor_of(step, request)
    if vendor["status"] != "active":
        return end("refused", f"The vendor is {vendor['status']}.")
    known = await latest_screening(step, request, vendor)
    if known is not None and known["counts"]:
        clear = known["clear"]
    else:
        asked_as = identity(request["vendor_id"], vendor, replaces=known["id"] if known else "")
        clear = await screen_name(sanctions_url(), asked_as, vendor["name"])
        step.stage(INSERT, asked_as, request["vendor_id"], vendor["name"], vendor["bank_account"], clear, expect_rows=1)
    if not clear:
        return end("refused", "The vendor is on a sanctions list.")
    written = state.get("case")
    # A case that was written on this very record still stands: the model is not asked again.
    goto = "approve" if written and written["vendor"] == vendor else "case"
    return Command(update={"vendor": vendor}, goto=goto)


def identity(vendor_id: str, vendor: Vendor, *, replaces: str) -> str:
    """Name of one screening: whom it is about, and which earlier one it replaces.

    The same however often the node runs, since all of it is a fact or stands in the state. Another one once the record
    has changed, or the earlier screening has become too old.
    """
    named = "\n".join((vendor_id, vendor["name"], vendor["bank_account"], replaces))
    return hashlib.sha256(named.encode()).hexdigest()[:32]
