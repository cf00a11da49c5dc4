"""Last node: what was decided is checked against the line as it is now, and written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.types import Command

from superstep import current_step
from superstep.graphs.underwriting.records import has_room, recorded_decision

if TYPE_CHECKING:
    from superstep import Step
    from superstep.graphs.underwriting.state import Decision, State

__all__ = ["MAX_REASSESSMENTS", "commit"]

# Every round grants at most what was open a moment before, so rounds end by themselves when the line is full. The bound
# is for a line that others draw on and repay all the time.
MAX_REASSESSMENTS = 5

INSERT_DECISION = (
    "INSERT INTO underwriting.decision "
    "(application_id, account_id, product, requested, outcome, amount, reasons, policies, reviewed) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (application_id) DO NOTHING"
)
DRAW = "UPDATE underwriting.credit_line SET drawn = drawn + $2 WHERE id = $1 AND drawn + $2 <= credit_limit"
INSERT_EXPOSURE = "INSERT INTO underwriting.exposure (account_id, application_id, amount) VALUES ($1, $2, $3)"


async def commit(state: State) -> Command[str]:
    """Stage the decision and, if approved, the draw on the line.

    The decision was made in earlier super-steps, on facts that may have moved since. What account and applicant are is
    guarded (see `flow`). The line is asked again here, in the transaction that writes, whether it has room: a
    condition, which draws of others leave as it is while there is enough. If there is not, the application is assessed
    again; after `MAX_REASSESSMENTS` rounds it is referred to a human.

    May run many times; nothing but the staged writes of the last time takes effect.
    """
    step, decision = current_step(), state["decision"]
    assert decision is not None  # noqa: S101 - `decide` is the only way here
    decided = await recorded_decision(step, state["application"])
    if decided is not None:
        return Command(update={"decision": decided}, goto="__end__")
    approved, line_id = decision["outcome"] == "approve", state["exposure"]["line_id"]
    if approved and not await has_room(step, line_id, decision["amount"]):
        rounds = state.get("reassessments", 0)
        if rounds < MAX_REASSESSMENTS:
            return Command(update={"reassessments": rounds + 1}, goto="exposure")
        decision = _referred(decision)
    final: Decision = {**decision, "recorded": True}
    _stage(step, final, state)
    return Command(update={"decision": final}, goto="__end__")


def _stage(step: Step, decision: Decision, state: State) -> None:
    application = state["application"]
    step.stage(
        INSERT_DECISION,
        application["id"],
        application["account_id"],
        application["product"],
        application["amount"],
        decision["outcome"],
        decision["amount"],
        decision["reasons"],
        decision["policies"],
        decision["reviewed"],
        expect_rows=1,
    )
    if decision["outcome"] == "approve":
        step.stage(DRAW, state["exposure"]["line_id"], decision["amount"], expect_rows=1)
        step.stage(INSERT_EXPOSURE, application["account_id"], application["id"], decision["amount"], expect_rows=1)


def _referred(decision: Decision) -> Decision:
    reasons = [*decision["reasons"], "The credit line kept changing while the application was assessed."]
    return {**decision, "outcome": "refer", "amount": 0, "reasons": reasons}
