"""Human gates: one person approves, or two different ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langgraph.types import Command, interrupt

from superstep import current_step
from superstep.graphs.approvals.records import approvers_of, end, has_room, vendor_of

if TYPE_CHECKING:
    from superstep import Step
    from superstep.graphs.approvals.state import Request, State, Vendor

__all__ = ["TWO_APPROVALS_FROM", "Ruling", "approve", "needed", "read_answer"]

TWO_APPROVALS_FROM = 10_000_00

HOW_TO_ANSWER = 'Answer {"by": "<one of may_answer>", "approved": true or false, "note": "…"}.'

INSERT = (
    "INSERT INTO approvals.approval (vendor_id, invoice, bank_account, amount, approver_id, note) "
    "VALUES ($1, $2, $3, $4, $5, $6)"
)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What an approver said."""

    by: str
    approved: bool
    note: str


def needed(amount: int) -> int:
    """How many different people have to approve an amount (in cents)."""
    return 2 if amount >= TWO_APPROVALS_FROM else 1


async def approve(state: State) -> Command[str]:
    """Ask one approver; runs once for each.

    All that the question is about is read before it is put. When the answer comes, maybe hours later and in another
    process, those reads are repeated first. Unmoved: the answer counts. Moved: it does not, and the node runs on what
    is there now: a changed vendor record is screened again, written about again, and asked about again.
    """
    step, request, vendor, case = current_step(), state["request"], state["vendor"], state["case"]
    assert vendor is not None  # noqa: S101 - `screen` and `case` are the only way here
    assert case is not None  # noqa: S101
    if await vendor_of(step, request) != vendor:
        return Command(update={"facts_changed": True}, goto="screen")
    given = await approvers_of(step, request, vendor)
    if len(given) >= needed(request["amount"]):
        return Command(goto="book")
    if not await has_room(step, request):
        return end("refused", "The budget has no room for it.")
    may_answer = await _may_answer(step, request, given)
    question = {
        "question": f"Pay {request['amount'] / 100:,.2f} to {vendor['name']}, account {vendor['bank_account']}?",
        "request": request,
        "case": case["summary"],
        "risks": case["risks"],
        "recommendation": case["recommendation"],
        "facts_changed": step.facts_changed or state.get("facts_changed", False),
        "approved_by": given,
        "may_answer": may_answer,
        "how_to_answer": HOW_TO_ANSWER,
    }
    answer = interrupt(question)
    while isinstance(ruling := read_answer(answer, may_answer), str):
        answer = interrupt({**question, "problem": ruling})
    if not ruling.approved:
        reason = f"Rejected by {ruling.by}. {ruling.note}".strip()
        return end("rejected", reason)
    step.stage(INSERT, *_identity(request, vendor), ruling.by, ruling.note, expect_rows=1)
    enough = len(given) + 1 >= needed(request["amount"])
    return Command(goto="book" if enough else "approve")


async def _may_answer(step: Step, request: Request, given: list[str]) -> list[str]:
    """Who may: up to this amount, not who requested it, and nobody who has approved it already."""
    rows = await step.fetch(
        "SELECT id FROM approvals.approver WHERE up_to >= $1 AND id <> $2 AND id <> ALL($3) ORDER BY id",
        request["amount"],
        request["requested_by"],
        given,
    )
    return [row["id"] for row in rows]


def _identity(request: Request, vendor: Vendor) -> tuple[str, str, str, int]:
    return request["vendor_id"], request["invoice"], vendor["bank_account"], request["amount"]


def read_answer(answer: Any, may_answer: list[str]) -> Ruling | str:
    """Understand an approver's answer, or say what is wrong with it.

    Who answers is what the answer says: the program that resumes the flow has to know it for certain.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("approved"), bool):
        return f"The answer was not understood. {HOW_TO_ANSWER}"
    if answer.get("by") not in may_answer:
        return f"{answer.get('by')!r} may not approve this. It takes one of {', '.join(may_answer) or 'nobody'}."
    return Ruling(by=answer["by"], approved=answer["approved"], note=str(answer.get("note", "")))
