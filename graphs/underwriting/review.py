"""A human approves large amounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langgraph.types import Command, interrupt

from superstep import current_step
from superstep.graphs.underwriting.records import open_part

if TYPE_CHECKING:
    from superstep.graphs.underwriting.state import Decision, State

__all__ = ["Ruling", "read_answer", "review"]

HOW_TO_ANSWER = 'Answer true or false, or {"approved": true, "amount": <cents, at most the proposed>, "note": "…"}.'


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the reviewer said. `amount` in cents."""

    approved: bool
    amount: int
    note: str


async def review(state: State) -> Command[str]:
    """Ask a human, showing the room on the line as it is now; assess again if it no longer suffices.

    The line is read before the question is put, so that an answer given hours later counts only if the line is still
    what the human was shown. An answer that cannot be understood is asked for again.
    """
    decision, application = state["decision"], state["application"]
    assert decision is not None  # noqa: S101 - `decide` is the only way here
    available = await open_part(current_step(), state["exposure"]["line_id"])
    if available < decision["amount"]:
        return Command(update={"reassessments": state.get("reassessments", 0) + 1}, goto="exposure")
    question = {
        "question": f"Approve {decision['amount'] / 100:,.2f} on a {application['product']}?",
        "application": application,
        "amount": decision["amount"],
        "available": available,
        "bureau": state.get("bureau"),
        "reasons": decision["reasons"],
        "how_to_answer": HOW_TO_ANSWER,
    }
    answer = interrupt(question)
    while isinstance(ruling := read_answer(answer, decision["amount"]), str):
        answer = interrupt({**question, "problem": ruling})
    return Command(update=_apply(ruling, decision), goto="commit")


def read_answer(answer: Any, proposed: int) -> Ruling | str:
    """Understand a reviewer's answer, or say what is wrong with it.

    Args:
        answer: A boolean, `"approve"` or `"decline"`, or an object with `approved` and optionally `amount` and `note`.
        proposed: The proposed amount in cents, which a reviewer may lower but not raise.
    """
    words = {"approve": True, "approved": True, "yes": True, "decline": False, "declined": False, "no": False}
    if isinstance(answer, str) and answer.strip().lower() in words:
        answer = words[answer.strip().lower()]
    if isinstance(answer, bool):
        answer = {"approved": answer}
    if not isinstance(answer, dict) or not isinstance(answer.get("approved"), bool):
        return f"The answer was not understood. {HOW_TO_ANSWER}"
    amount = answer.get("amount", proposed)
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 < amount <= proposed:
        return f"'amount' must be a number of cents from 1 to {proposed}."
    return Ruling(approved=answer["approved"], amount=amount, note=str(answer.get("note", "")))


def _apply(ruling: Ruling, decision: Decision) -> dict[str, Any]:
    said = "Approved by an underwriter." if ruling.approved else "Declined by an underwriter."
    reasons = [*decision["reasons"], f"{said} {ruling.note}".strip()]
    ruled: Decision = {
        **decision,
        "outcome": "approve" if ruling.approved else "decline",
        "amount": ruling.amount if ruling.approved else 0,
        "reasons": reasons,
        "reviewed": True,
    }
    return {"decision": ruled, "review": {"approved": ruling.approved, "amount": ruling.amount, "note": ruling.note}}
