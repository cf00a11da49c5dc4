"""The decision: the model proposes, hard limits dispose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from langchain_core.exceptions import OutputParserException
from langgraph.types import Command
from pydantic import BaseModel, Field

from superstep import chat_model, prompt
from superstep.graphs.underwriting import rules
from superstep.graphs.underwriting.limits import Facts, ceiling, enforce, needs_review

if TYPE_CHECKING:
    from superstep.graphs.underwriting.state import Decision, State

__all__ = ["Proposal", "decide"]


class Proposal(BaseModel):
    """The proposed decision."""

    outcome: Literal["approve", "decline", "refer"] = Field(description="The decision.")
    amount_cents: int = Field(description="Amount to grant in cents; 0 unless approved.")
    reasons: list[str] = Field(description="Reasons, each one sentence.")
    cited_policies: list[str] = Field(description="Ids of the policy passages used.")


async def decide(state: State) -> Command[str]:
    """Decide on the facts in the state, within the limits of `limits.enforce`."""
    facts = Facts(
        application=state["application"],
        account=state["plan"]["account"],
        identity=state["identity"],
        bureau=state.get("bureau"),
        exposure=state["exposure"],
    )
    proposal = await _propose(facts, state)
    verdict = enforce(proposal.outcome, proposal.amount_cents, proposal.reasons, facts)
    known = {passage["id"] for passage in state["passages"]}
    decision: Decision = {
        "application_id": facts.application["id"],
        "outcome": verdict.outcome,
        "amount": verdict.amount,
        "reasons": list(verdict.reasons),
        "policies": [cited for cited in proposal.cited_policies if cited in known],  # models invent citations
        "reviewed": False,
        "recorded": False,
    }
    return Command(update={"decision": decision}, goto="review" if needs_review(verdict.amount) else "commit")


async def _propose(facts: Facts, state: State) -> Proposal:
    shown: dict[str, Any] = {
        "product": facts.application["product"],
        "amount_cents": facts.application["amount"],
        "purpose": facts.application["purpose"],
        "most_cents": ceiling(facts),
        "account": {"status": facts.account["status"], "annual_income_cents": facts.account["annual_income"]},
        "identity": facts.identity,
        "bureau": facts.bureau,
        "exposure": facts.exposure,
        "policy": [{"id": each["id"], "text": each["content"]} for each in state["passages"]],
    }
    ask = await prompt("underwriting/decide")
    model = chat_model(ask, offline=rules.answer).with_structured_output(Proposal)
    proposal = await model.ainvoke(await ask.ainvoke({"facts": shown}))
    if not isinstance(proposal, Proposal):
        raise OutputParserException("The model did not return a decision.")
    return proposal
