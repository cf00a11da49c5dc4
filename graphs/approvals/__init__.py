"""Approvals: pay vendors on facts that still hold when the money goes, hours after a human looked at them.

    accept ─ screen ─ case ─ approve ⟲ ─ book
               ▲                │          │
               └── what the case was written on has moved

`screen` asks a sanctions service, `case` has a model write what an approver should know, `approve` asks one human, or
two different ones from `TWO_APPROVALS_FROM` on, and `book` pays. Whatever happens in between:

- an invoice is paid once;
- money goes only to the bank account that every approver was shown;
- payments together never exceed their budget;
- one person counts once.

Run it with `runtime run graphs.approvals`. `setup` makes its tables, `lifespan` keeps its sanctions service available.
"""

from __future__ import annotations

import secrets
from typing import Any

from superstep.graphs.approvals.flow import build
from superstep.graphs.approvals.sanctions import lifespan
from superstep.graphs.approvals.seed import setup

__all__ = ["build", "example_input", "graph", "lifespan", "setup"]

graph = build()


def example_input() -> dict[str, Any]:
    """A new invoice each time, large enough for two approvers. Amounts are in cents."""
    return {
        "vendor_id": "V-001",
        "invoice": f"INV-{secrets.token_hex(4)}",
        "budget_id": "operations",
        "amount": 18_500_00,
        "purpose": "spare parts for the spring service",
        "requested_by": "E-kim",
    }
