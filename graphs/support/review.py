"""A supervisor approves a large refund."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langgraph.types import Command, interrupt

from superstep import current_step
from superstep.graphs.support.records import money, refundable, refunded_in, settled

if TYPE_CHECKING:
    from superstep.graphs.support.state import Approval, State

__all__ = ["Ruling", "read_answer", "review"]

HOW_TO_ANSWER = 'Answer {"by": "<your name>", "approved": true or false, "note": "…"}.'


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a supervisor said."""

    by: str
    approved: bool
    note: str


async def review(state: State) -> Command[str]:
    """Ask a supervisor, whose answer may come hours later and in another process.

    The order and the balance of refunds are read before the question is put, and again when the answer comes. Moved:
    the answer does not count, and the question comes again with `facts_changed`, or not at all if the refund has become
    another one.
    """
    step, refund, customer = current_step(), state["refund"], state["customer"]
    assert refund is not None  # noqa: S101 - `assess` is the only way here
    if await refundable(step, customer["id"], refund["order_id"], refund["year"]) != refund:
        return Command(update={"facts_changed": True}, goto="assess")
    balance = await refunded_in(step, customer["id"], refund["year"])
    question = {
        "question": f"Refund {money(refund['amount'])} to {customer['name']} for order {refund['order_id']}?",
        "refund": refund,
        "reason": state["wishes"][0]["reason"],
        "refunded_this_year": balance,
        "facts_changed": step.facts_changed or state.get("facts_changed", False),
        "how_to_answer": HOW_TO_ANSWER,
    }
    answer = interrupt(question)
    while isinstance(ruling := read_answer(answer), str):
        answer = interrupt({**question, "problem": ruling})
    if not ruling.approved:
        sentence = f"Order {refund['order_id']} is not refunded: a supervisor has declined it. {ruling.note}".strip()
        return Command(update=settled(state, sentence), goto="assess")
    approval: Approval = {"refund": refund, "by": ruling.by}
    return Command(update={"approval": approval}, goto="pay")


def read_answer(answer: Any) -> Ruling | str:
    """Understand a supervisor's answer, or say what is wrong with it.

    Who answers is what the answer says: the program that resumes the flow has to know it for certain.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("approved"), bool):
        return f"The answer was not understood. {HOW_TO_ANSWER}"
    if not isinstance(answer.get("by"), str) or not answer["by"].strip():
        return f"The answer does not say whose it is. {HOW_TO_ANSWER}"
    return Ruling(by=answer["by"], approved=answer["approved"], note=str(answer.get("note", "")))
