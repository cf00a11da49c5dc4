"""Underwriting: decide credit applications on facts that still hold when the decision is written.

    plan ─┬─ identity ─┐
          ├─ bureau ───┼─ policy ─ decide ─┬─ commit
          └─ exposure ─┘                   └─ review (a human, large amounts) ─ commit

`commit` reads the credit line again in the transaction that draws on it, and goes back to `exposure` if the room is
gone. Two applications that race for one line therefore never exceed it.

Run it with `runtime run graphs.underwriting`. `setup` makes its tables, `lifespan` keeps its credit bureau available.
"""

from __future__ import annotations

from typing import Any

from superstep.graphs.underwriting.bureau import lifespan
from superstep.graphs.underwriting.flow import build
from superstep.graphs.underwriting.seed import EXAMPLE_ACCOUNT, setup

__all__ = ["build", "example_input", "graph", "lifespan", "setup"]

graph = build()

# Amounts are in cents. Without an `application_id` each run is a new application.
example_input: dict[str, Any] = {
    "account_id": EXAMPLE_ACCOUNT,
    "product": "business_line",
    "amount": 12_000_00,
    "purpose": "stock before the season",
}
