"""A model writes what an approver should know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel, Field

from superstep import chat_model, current_step, prompt
from superstep.graphs.approvals import rules

if TYPE_CHECKING:
    from superstep.graphs.approvals.state import State

__all__ = ["CaseDraft", "case"]


class CaseDraft(BaseModel):
    """The case for the approvers."""

    summary: str = Field(description="What is to be paid to whom and for what, in one or two sentences.")
    risks: list[str] = Field(description="What an approver should look at, each one sentence; empty if nothing.")
    recommendation: Literal["approve", "look closely"] = Field(description="What you advise.")


async def case(state: State) -> dict[str, Any]:
    """Write the case on the record that was screened.

    The vendor's last payments are shown to the model and are no facts: a payment that is made meanwhile does not make
    it write again. The record itself is read again by `approve` and `book`, where something depends on it.
    """
    request, vendor = state["request"], state["vendor"]
    assert vendor is not None  # noqa: S101 - `screen` is the only way here
    before = await current_step().fetch(
        "SELECT amount, bank_account FROM approvals.payment WHERE vendor_id = $1 "
        "ORDER BY paid_at DESC, invoice LIMIT 3",
        request["vendor_id"],
        validate=False,
    )
    shown = {
        "vendor": vendor,
        "amount_cents": request["amount"],
        "purpose": request["purpose"],
        "last_payments": [{"amount_cents": row["amount"], "bank_account": row["bank_account"]} for row in before],
    }
    ask = await prompt("approvals/case")
    model = chat_model(ask, offline=rules.answer).with_structured_output(CaseDraft)
    draft = await model.ainvoke(await ask.ainvoke({"facts": shown}))
    if not isinstance(draft, CaseDraft):
        raise OutputParserException("The model did not return a case.")
    return {"case": {"vendor": vendor, **draft.model_dump()}}
