"""Fraud: decide a card authorisation on four signals of one moment, while events keep coming in.

    plan ─┬─ velocity ─┐
          ├─ exposure ─┼─ review ─┬─ human ─┬─ settle
          ├─ device ───┤          └─────────┘     │
          └─ recent ───┘                          │
      ▲                                           │
      └── what was decided on has moved ──────────┘

The signals are aggregates over ingested events (see `signals`). Four nodes read them side by side in one super-step, so
they are of one ingestion point. `review` has a model weigh them, and a human decides what is risky. `settle` writes the
decision and puts the card on hold. Whatever comes in meanwhile:

- the four signals of a decision are those of the ingestion point that is recorded with it;
- an authorisation is decided once;
- a decision is written only if no signal has passed a threshold since, up or down. Between thresholds, signals move as
  they like, and no model is asked again.

Run it with `runtime run graphs.fraud`. `setup` makes its tables, declares the aggregates and ingests example events.
"""

from __future__ import annotations

import secrets
from typing import Any

from superstep.graphs.fraud.flow import build
from superstep.graphs.fraud.seed import NOON, setup

__all__ = ["build", "example_input", "graph", "setup"]

graph = build()


def example_input() -> dict[str, Any]:
    """A new authorisation each time, of a card that behaves as it always did. Amounts are in cents."""
    return {
        "authorisation_id": f"AU-{secrets.token_hex(4)}",
        "card": "C-1001",
        "device": "D-1001",
        "merchant": "north",
        "amount": 42_00,
        "at": NOON.isoformat(),
    }
