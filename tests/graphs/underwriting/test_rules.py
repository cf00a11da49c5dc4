"""What the offline model answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from superstep.graphs.underwriting import rules
from superstep.graphs.underwriting.decide import Proposal
from superstep.graphs.underwriting.plan import PlanDraft
from superstep.providers import OfflineRequest


def request_for(schema_name: str, content: dict[str, Any]) -> OfflineRequest:
    return OfflineRequest("r", (HumanMessage(json.dumps(content)),), schema_name=schema_name, schema={})


PROPOSAL_FACTS: dict[str, Any] = {
    "product": "card",
    "most_cents": 900_00,
    "identity": {"kyc_status": "verified"},
    "bureau": {"score": 800, "defaults": 0},
    "policy": [{"id": "p1", "text": "…"}, {"id": "p2", "text": "…"}, {"id": "p3", "text": "…"}],
}


def test_the_rules_plan_and_are_pure() -> None:
    request = request_for("PlanDraft", {"product": "personal_loan", "amount_cents": 700_00, "purpose": "a car"})
    draft = PlanDraft.model_validate(rules.answer(request))
    assert sorted(draft.checks) == ["bureau", "exposure", "identity"]
    assert "personal loan of 700 for a car" in draft.policy_question
    assert rules.answer(request) == rules.answer(request)


@pytest.mark.parametrize(
    ("change", "outcome", "amount"),
    [
        ({}, "approve", 900_00),
        ({"bureau": None}, "approve", 900_00),
        ({"bureau": {"score": 600, "defaults": 0}}, "approve", 450_00),
        ({"bureau": {"score": 500, "defaults": 0}}, "decline", 0),
        ({"most_cents": 50_00}, "decline", 0),
        ({"identity": {"kyc_status": "expired"}}, "refer", 0),
    ],
)
def test_the_rules_decide(change: dict[str, Any], outcome: str, amount: int) -> None:
    proposal = Proposal.model_validate(rules.answer(request_for("Proposal", {**PROPOSAL_FACTS, **change})))
    assert (proposal.outcome, proposal.amount_cents) == (outcome, amount)
    assert proposal.reasons[0].startswith("[offline]")
    assert proposal.cited_policies == ["p1", "p2"]


def test_the_rules_leave_other_requests_alone() -> None:
    assert rules.answer(request_for("Other", {})) is None
    assert rules.answer(OfflineRequest("r", ())) is None
