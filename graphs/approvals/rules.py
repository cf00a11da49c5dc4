"""What the model answers in this flow when no vendor serves it. Pure functions of the request's content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superstep import OfflineRequest

__all__ = ["answer"]


def answer(request: OfflineRequest) -> dict[str, Any] | None:
    """Write the case; leave anything else to the offline model's default."""
    if request.schema_name != "CaseDraft":
        return None
    try:
        facts = json.loads(request.text)
    except ValueError:
        return None
    vendor, before = facts["vendor"], facts["last_payments"]
    risks = []
    if not before:
        risks.append("This is the first payment to this vendor.")
    elif before[0]["bank_account"] != vendor["bank_account"]:
        risks.append(f"The last payment went to another bank account, {before[0]['bank_account']}.")
    return {
        "summary": f"[offline] {facts['amount_cents'] / 100:,.2f} to {vendor['name']} for {facts['purpose']}.",
        "risks": risks,
        "recommendation": "look closely" if risks else "approve",
    }
