"""The limits that no proposal exceeds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.graphs.underwriting.limits import PRODUCTS, REVIEW_ABOVE, Facts, ceiling, enforce, needs_review, room

CENTS = st.integers(0, 10_000_000_00)


def facts(**changes: Any) -> Facts:
    """Facts of a sound applicant, with changes."""
    known: dict[str, Any] = {
        "product": "personal_loan",
        "amount": 10_000_00,
        "income": 100_000_00,
        "status": "open",
        "kyc": "verified",
        "sanctioned": False,
        "score": 750,
        "defaults": 0,
        "line_id": "L",
        "credit_limit": 50_000_00,
        "drawn": 0,
        "obligations": 0,
        **changes,
    }
    return Facts(
        application={
            "id": "APP-1",
            "account_id": "A",
            "product": known["product"],
            "amount": known["amount"],
            "purpose": "test",
        },
        account={"id": "A", "status": known["status"], "annual_income": known["income"]},
        identity={"kyc_status": known["kyc"], "sanctioned": known["sanctioned"]},
        bureau=None if known["score"] is None else {"score": known["score"], "defaults": known["defaults"]},
        exposure={
            "line_id": known["line_id"],
            "credit_limit": known["credit_limit"],
            "drawn": known["drawn"],
            "obligations": known["obligations"],
        },
    )


def test_a_sound_proposal_passes_unchanged() -> None:
    verdict = enforce("approve", 10_000_00, ["fine"], facts())
    assert (verdict.outcome, verdict.amount, verdict.reasons) == ("approve", 10_000_00, ("fine",))


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"sanctioned": True}, "decline"),
        ({"status": "closed"}, "decline"),
        ({"line_id": None, "credit_limit": 0}, "decline"),
        ({"score": 599}, "decline"),
        ({"defaults": 2}, "decline"),
        ({"drawn": 50_000_00}, "decline"),
        ({"drawn": 60_000_00}, "decline"),
        ({"obligations": 60_000_00}, "decline"),
        ({"kyc": "expired"}, "refer"),
        ({"kyc": "pending", "sanctioned": True}, "decline"),
        ({"score": None}, "approve"),
    ],
)
def test_hard_limits_overrule_an_approval(changes: dict[str, Any], outcome: str) -> None:
    verdict = enforce("approve", 10_000_00, [], facts(**changes))
    assert verdict.outcome == outcome
    assert (verdict.amount > 0) == (outcome == "approve")
    assert verdict.reasons or outcome == "approve"


@pytest.mark.parametrize("outcome", ["decline", "refer"])
def test_a_stricter_proposal_stands(outcome: str) -> None:
    verdict = enforce(outcome, 10_000_00, ["because"], facts())
    assert (verdict.outcome, verdict.amount, verdict.reasons) == (outcome, 0, ("because",))


def test_an_amount_is_reduced_to_what_is_open() -> None:
    verdict = enforce("approve", 10_000_00, [], facts(drawn=47_000_00))
    assert (verdict.outcome, verdict.amount) == ("approve", 3_000_00)
    assert "reduced" in verdict.reasons[0]


def test_an_amount_below_the_smallest_is_referred() -> None:
    assert enforce("approve", 100_00, [], facts()).outcome == "refer"
    assert enforce("approve", -5, [], facts()).amount == 0


@given(
    st.sampled_from(["approve", "decline", "refer", "?"]),
    st.integers(-(10**12), 10**12),
    st.fixed_dictionaries(
        {
            "product": st.sampled_from(sorted(PRODUCTS)),
            "amount": st.integers(1, 10_000_000_00),
            "income": CENTS,
            "credit_limit": CENTS,
            "drawn": CENTS,
            "obligations": CENTS,
            "score": st.none() | st.integers(300, 900),
            "defaults": st.integers(0, 4),
            "kyc": st.sampled_from(["verified", "expired"]),
            "sanctioned": st.booleans(),
        }
    ),
)
def test_no_proposal_exceeds_a_limit(outcome: str, amount: int, changes: dict[str, Any]) -> None:
    known = facts(**changes)
    verdict = enforce(outcome, amount, [], known)
    assert verdict.outcome in ("approve", "decline", "refer")
    assert (verdict.outcome == "approve") == (verdict.amount > 0)
    assert verdict.amount <= min(changes["amount"], room(changes["credit_limit"], changes["drawn"]), ceiling(known))
    if verdict.outcome == "approve":
        assert outcome == "approve"
        assert not changes["sanctioned"]


def test_review_is_needed_above_the_limit_only() -> None:
    assert not needs_review(REVIEW_ABOVE)
    assert needs_review(REVIEW_ABOVE + 1)
