"""State of the fraud flow: plain JSON-like values, amounts as integers in minor units (cents)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from langgraph.channels import EphemeralValue

__all__ = ["Assessment", "Levels", "Outcome", "Plan", "Request", "Ruling", "Seen", "State", "Status"]

Status = Literal["approved", "blocked", "decided_before", "refused"]

Levels = dict[str, int]
"""By signal: how many of its thresholds it has reached."""


class Request(TypedDict):
    """What is to be decided. `at` is when the card was used: it names the windows that the signals are read in."""

    id: str
    card: str
    device: str
    merchant: str
    amount: int
    at: str


class Plan(TypedDict):
    """What is looked at for this card: by signal, the thresholds from which on it says more."""

    limit: int
    thresholds: dict[str, list[int]]


class Seen(TypedDict):
    """A signal: the values, the one that has thresholds, and the ingestion point that they are of."""

    point: int
    measure: int
    values: dict[str, Any]


class Assessment(TypedDict):
    """What a model made of the signals, and which they were."""

    risk: int
    reasons: list[str]
    point: int
    levels: Levels


class Ruling(TypedDict):
    """What a human said."""

    by: str
    block: bool
    note: str


class Outcome(TypedDict):
    """How it ended. `point` is the ingestion point of the signals; `None` if this run has decided nothing."""

    status: Status
    reason: str
    point: int | None


class State(TypedDict):
    """Channels of the flow.

    The first six are the input, seen by `plan` alone.

    Attributes:
        facts_changed: what an earlier question or decision of this run rested on has moved.
    """

    authorisation_id: Annotated[str, EphemeralValue]
    card: Annotated[str, EphemeralValue]
    device: Annotated[str, EphemeralValue]
    merchant: Annotated[str, EphemeralValue]
    amount: Annotated[int, EphemeralValue]
    at: Annotated[str, EphemeralValue]

    request: NotRequired[Request]
    plan: NotRequired[Plan]
    velocity: NotRequired[Seen]
    exposure: NotRequired[Seen]
    seen_device: NotRequired[Seen]
    recent: NotRequired[Seen]
    assessment: NotRequired[Assessment | None]
    ruling: NotRequired[Ruling | None]
    facts_changed: NotRequired[bool]
    outcome: NotRequired[Outcome | None]
