"""State of the approvals flow: plain JSON-like values, amounts as integers in minor units (cents)."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from langgraph.channels import EphemeralValue

__all__ = ["Case", "Outcome", "Request", "State", "Status", "Vendor"]

Status = Literal["paid", "paid_before", "refused", "rejected"]


class Request(TypedDict):
    """What is to be paid. Vendor and invoice together are its identity."""

    vendor_id: str
    invoice: str
    budget_id: str
    amount: int
    purpose: str
    requested_by: str


class Vendor(TypedDict):
    """What payment and case rest on: the vendor's record as it was screened."""

    name: str
    status: str
    bank_account: str


class Case(TypedDict):
    """What a model wrote for the approvers, and about which record."""

    vendor: Vendor
    summary: str
    risks: list[str]
    recommendation: str


class Outcome(TypedDict):
    """How the request ended. `approved_by` is empty unless it was paid by this run."""

    status: Status
    reason: str
    approved_by: list[str]


class State(TypedDict):
    """Channels of the flow.

    The first six are the input, seen by `accept` alone.

    Attributes:
        facts_changed: the vendor's record has moved since the first question: whoever is asked from then on is told so.
    """

    vendor_id: Annotated[str, EphemeralValue]
    invoice: Annotated[str, EphemeralValue]
    budget_id: Annotated[str, EphemeralValue]
    amount: Annotated[int, EphemeralValue]
    requested_by: Annotated[str, EphemeralValue]
    purpose: NotRequired[Annotated[str, EphemeralValue]]

    request: NotRequired[Request]
    vendor: NotRequired[Vendor | None]
    case: NotRequired[Case | None]
    facts_changed: NotRequired[bool]
    outcome: NotRequired[Outcome | None]
