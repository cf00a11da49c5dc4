"""State of the underwriting flow: plain JSON-like values, amounts as integers in minor units (cents)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from langgraph.channels import EphemeralValue

__all__ = ["Account", "Application", "Bureau", "Decision", "Exposure", "Identity", "Passage", "Plan", "State"]

Outcome = Literal["approve", "decline", "refer"]


class Application(TypedDict):
    """What is applied for, checked and complete. `amount` in cents."""

    id: str
    account_id: str
    product: str
    amount: int
    purpose: str


class Account(TypedDict):
    """The account and its owner, as the plan saw them."""

    id: str
    status: str
    annual_income: int


class Plan(TypedDict):
    """Which checks to make and what to ask the credit policy."""

    checks: list[str]
    policy_question: str
    account: Account


class Identity(TypedDict):
    """What is known about who the applicant is."""

    kyc_status: str
    sanctioned: bool


class Bureau(TypedDict):
    """The credit bureau's report."""

    score: int
    defaults: int


class Exposure(TypedDict):
    """Room on the credit line and everything the customer already owes, in cents."""

    line_id: str | None
    credit_limit: int
    drawn: int
    obligations: int


class Passage(TypedDict):
    """One passage of the credit policy."""

    id: str
    content: str
    distance: float


class Decision(TypedDict):
    """The decision. `amount` in cents, 0 unless approved. `recorded` once it is committed."""

    application_id: str
    outcome: str
    amount: int
    reasons: list[str]
    policies: list[str]
    reviewed: bool
    recorded: bool


class State(TypedDict):
    """Channels of the flow.

    The first five are the input. They are ephemeral, seen by `plan` alone, so that a second application on the same
    thread does not inherit what it leaves out from the first.
    """

    account_id: Annotated[str, EphemeralValue]
    product: Annotated[str, EphemeralValue]
    amount: Annotated[int, EphemeralValue]
    purpose: NotRequired[Annotated[str, EphemeralValue]]
    application_id: NotRequired[Annotated[str, EphemeralValue]]

    application: NotRequired[Application]
    plan: NotRequired[Plan]
    identity: NotRequired[Identity]
    bureau: NotRequired[Bureau | None]
    exposure: NotRequired[Exposure]
    passages: NotRequired[list[Passage]]
    decision: NotRequired[Decision | None]
    review: NotRequired[dict[str, Any] | None]
    reassessments: NotRequired[int]
