"""Last node: write the decision, and put the card on hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from superstep import current_step
from superstep.graphs.fraud.records import end, point_now
from superstep.graphs.fraud.signals import seen_in

if TYPE_CHECKING:
    from langgraph.types import Command

    from superstep.graphs.fraud.state import State

__all__ = ["settle"]

DECIDE = (
    "INSERT INTO fraud.decision (authorisation_id, card, amount, outcome, risk, reasons, decided_by, signals, point, "
    "settled_point) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10)"
)
HOLD = "UPDATE fraud.card SET status = 'held' WHERE id = $1 AND status = 'active'"


async def settle(state: State) -> Command[str]:
    """Stage the decision, and the hold if it is one to block.

    Guarded by `plan` and `assessment` (see `flow`): this runs, and commits, only while the card is active, the
    authorisation open, and every signal between the thresholds it was weighed at. An event whose batch commits at the
    same moment counts as later than the decision.

    May run many times; nothing but the staged writes of the last time takes effect.
    """
    step, request, assessment, ruling = current_step(), state["request"], state["assessment"], state.get("ruling")
    assert assessment is not None  # noqa: S101 - `review` is the only way here
    blocked = ruling is not None and ruling["block"]
    step.stage(
        DECIDE,
        request["id"],
        request["card"],
        request["amount"],
        "blocked" if blocked else "approved",
        assessment["risk"],
        assessment["reasons"],
        ruling["by"] if ruling else "model",
        json.dumps(seen_in(state), sort_keys=True),
        assessment["point"],
        await point_now(step),
        expect_rows=1,
    )
    if blocked:
        step.stage(HOLD, request["card"], expect_rows=1)
    said = f"Risk {assessment['risk']}. {ruling['note'] if ruling else assessment['reasons'][0]}".strip()
    return end("blocked" if blocked else "approved", said, point=assessment["point"])
