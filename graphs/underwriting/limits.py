"""Hard limits of credit policy. Pure: no database, no model, no clock.

The model proposes, this module disposes: it can make a proposal stricter, never looser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from superstep.graphs.underwriting.state import Account, Application, Bureau, Exposure, Identity

__all__ = ["PRODUCTS", "REVIEW_ABOVE", "Facts", "Product", "Verdict", "enforce", "needs_review", "room", "ceiling"]

REVIEW_ABOVE = 25_000_00
BUREAU_FROM = 500_00
MAX_DEFAULTS = 1


@dataclass(frozen=True, slots=True)
class Product:
    """Limits of one product. Amounts in cents.

    Attributes:
        smallest: smallest amount that is worth granting.
        min_score: lowest bureau score.
        max_debt_ratio: largest share of annual income that all obligations together may reach.
    """

    smallest: int
    min_score: int
    max_debt_ratio: float


PRODUCTS = {
    "card": Product(smallest=100_00, min_score=580, max_debt_ratio=0.45),
    "personal_loan": Product(smallest=500_00, min_score=600, max_debt_ratio=0.60),
    "business_line": Product(smallest=1_000_00, min_score=560, max_debt_ratio=0.80),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a verdict depends on."""

    application: Application
    account: Account
    identity: Identity
    bureau: Bureau | None
    exposure: Exposure


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome that is within every limit. `amount` in cents, 0 unless approved."""

    outcome: str
    amount: int
    reasons: tuple[str, ...]


def room(credit_limit: int, drawn: int) -> int:
    """Open part of a credit line, in cents; never negative."""
    return max(0, credit_limit - drawn)


def ceiling(facts: Facts) -> int:
    """Largest amount that request, line and debt ratio allow, in cents; never negative."""
    product = PRODUCTS[facts.application["product"]]
    affordable = int(facts.account["annual_income"] * product.max_debt_ratio) - facts.exposure["obligations"]
    open_part = room(facts.exposure["credit_limit"], facts.exposure["drawn"])
    return max(0, min(facts.application["amount"], affordable, open_part))


def needs_review(amount: int) -> bool:
    """Whether a human has to approve this amount (in cents)."""
    return amount > REVIEW_ABOVE


def enforce(outcome: str, amount: int, reasons: list[str], facts: Facts) -> Verdict:
    """Bring a proposal within every hard limit.

    Args:
        outcome: The proposed outcome. Anything but `approve` is kept, unless a limit demands a decline.
        amount: The proposed amount, in cents.
        reasons: The proposal's reasons; those of the limits are added.
        facts: What the checks found.
    """
    refused = _grounds_for_decline(facts)
    if refused:
        return Verdict("decline", 0, (*reasons, *refused) if outcome == "decline" else tuple(refused))
    if facts.identity["kyc_status"] != "verified":
        return Verdict("refer", 0, (f"Identity verification is {facts.identity['kyc_status']}.",))
    if outcome != "approve":
        return Verdict("decline" if outcome == "decline" else "refer", 0, tuple(reasons))
    most = ceiling(facts)
    smallest = PRODUCTS[facts.application["product"]].smallest
    granted = min(amount, most)
    if granted < smallest:
        return Verdict("refer", 0, (*reasons, "The proposed amount is below the smallest of the product."))
    capped = ("The amount was reduced to what line and debt ratio allow.",) if granted < amount else ()
    return Verdict("approve", granted, (*reasons, *capped))


def _grounds_for_decline(facts: Facts) -> list[str]:
    product = PRODUCTS[facts.application["product"]]
    grounds = []
    if facts.identity["sanctioned"]:
        grounds.append("The applicant is on a sanctions list.")
    if facts.account["status"] != "open":
        grounds.append("The account is closed.")
    if facts.exposure["line_id"] is None:
        grounds.append("The account has no credit line for this product.")
    if facts.bureau is not None and facts.bureau["score"] < product.min_score:
        grounds.append(f"The bureau score {facts.bureau['score']} is below {product.min_score}.")
    if facts.bureau is not None and facts.bureau["defaults"] > MAX_DEFAULTS:
        grounds.append(f"The bureau reports {facts.bureau['defaults']} defaults in 24 months.")
    if ceiling(facts) < product.smallest:
        grounds.append("Line and debt ratio leave no room for the smallest amount of this product.")
    return grounds
