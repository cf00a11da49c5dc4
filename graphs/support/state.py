"""State of the support flow: messages and plain JSON-like values, amounts as integers in minor units (cents)."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from langchain_core.messages import AnyMessage  # noqa: TC002 - LangGraph reads the annotations
from langgraph.channels import EphemeralValue
from langgraph.graph.message import add_messages

__all__ = ["Approval", "Article", "Customer", "Refund", "State", "Wish"]


class Customer(TypedDict):
    """Who writes."""

    id: str
    name: str


class Article(TypedDict):
    """One help article."""

    id: str
    content: str


class Wish(TypedDict):
    """A refund that the agent has asked for, as it put it."""

    order_id: str
    reason: str


class Refund(TypedDict):
    """A refund that may be paid, and what a supervisor is shown of its order. Counts for the year it is assessed in."""

    order_id: str
    item: str
    order_status: str
    amount: int
    year: int


class Approval(TypedDict):
    """Who has approved which refund."""

    refund: Refund
    by: str


class State(TypedDict):
    """Channels of the flow.

    The first two are the input, seen by `receive` alone.

    Attributes:
        customer: who the conversation is with; it stays.
        messages: the whole conversation.
        reply: what the customer reads in answer to the last message.
        wishes: refunds that are not settled yet, of this message or an earlier one; the first is in work.
        facts_changed: the refund in work has been another one before.
    """

    customer_id: Annotated[str, EphemeralValue]
    message: Annotated[str, EphemeralValue]

    customer: NotRequired[Customer]
    messages: NotRequired[Annotated[list[AnyMessage], add_messages]]
    remembered: NotRequired[list[str]]
    articles: NotRequired[list[Article]]
    reply: NotRequired[str]
    wishes: NotRequired[list[Wish]]
    refund: NotRequired[Refund | None]
    approval: NotRequired[Approval | None]
    facts_changed: NotRequired[bool]
