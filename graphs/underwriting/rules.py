"""What the model answers in this flow when no vendor serves it. Pure functions of the request's content.

The requests carry their facts as one JSON object in the last message, which a vendor's model reads as well.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from superstep.graphs.underwriting.limits import BUREAU_FROM, PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from superstep import OfflineRequest

__all__ = ["answer"]


def answer(request: OfflineRequest) -> dict[str, Any] | None:
    """Answer the flow's two questions; leave anything else to the offline model's default."""
    try:
        facts = json.loads(request.text)
    except ValueError:
        return None
    if request.schema_name == "PlanDraft":
        return _plan(facts)
    if request.schema_name == "Proposal":
        return _proposal(facts)
    return None


def _plan(facts: Mapping[str, Any]) -> dict[str, Any]:
    product = facts["product"].replace("_", " ")
    checks = ["identity", "exposure", *(["bureau"] if facts["amount_cents"] >= BUREAU_FROM else [])]
    question = f"Which limits and score apply to a {product} of {facts['amount_cents'] // 100}"
    return {"checks": checks, "policy_question": f"{question} for {facts['purpose']}?"}


def _proposal(facts: Mapping[str, Any]) -> dict[str, Any]:
    bureau, most = facts["bureau"], facts["most_cents"]
    product = PRODUCTS[facts["product"]]
    cited = [passage["id"] for passage in facts["policy"][:2]]
    score = "no bureau report" if bureau is None else f"bureau score {bureau['score']}"
    if facts["identity"]["kyc_status"] != "verified":
        return _draft("refer", 0, f"[offline] Identity is {facts['identity']['kyc_status']}.", cited)
    if most < product.smallest or (bureau is not None and bureau["score"] < product.min_score):
        return _draft("decline", 0, f"[offline] At {score}, {most // 100} may be granted at most.", cited)
    # Marginal scores get half of what the limits would allow, as the card policy suggests.
    marginal = bureau is not None and bureau["score"] < product.min_score + 40
    amount = max(product.smallest, most // 2) if marginal else most
    return _draft("approve", amount, f"[offline] At {score}, {amount // 100} is within policy.", cited)


def _draft(outcome: str, amount: int, reason: str, cited: list[str]) -> dict[str, Any]:
    return {"outcome": outcome, "amount_cents": amount, "reasons": [reason], "cited_policies": cited}
