"""First node: check the application and turn it into a plan."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Literal

from langchain_core.exceptions import OutputParserException
from langgraph.types import Command
from pydantic import BaseModel, Field

from superstep import InputInvalid, chat_model, current_step, prompt
from superstep.graphs.underwriting import rules
from superstep.graphs.underwriting.limits import BUREAU_FROM, PRODUCTS
from superstep.graphs.underwriting.records import recorded_decision

if TYPE_CHECKING:
    from superstep.graphs.underwriting.state import Account, Application, Plan, State

__all__ = ["PlanDraft", "accept", "all_checks", "plan"]

Check = Literal["identity", "bureau", "exposure"]


class PlanDraft(BaseModel):
    """The plan of an assessment."""

    checks: list[Check] = Field(description="The checks to make.")
    policy_question: str = Field(description="One question to the credit policy, in one sentence.")


async def plan(state: State) -> Command[str]:
    """Plan the assessment, or end at once if the application has been decided before.

    Raises:
        InputInvalid: The application is malformed, names an account or product that does not exist, or has the id of
            an application for another account.
    """
    application = state["application"] if _is_planned_anew(state) else accept(state)
    step = current_step()
    row = await step.fetchrow(
        "SELECT a.id, a.status, p.annual_income FROM underwriting.account a "
        "JOIN underwriting.applicant p ON p.id = a.applicant_id WHERE a.id = $1",
        application["account_id"],
    )
    if row is None:
        raise InputInvalid(f"There is no account {application['account_id']!r}. Example accounts: A-0001 to A-0400.")
    decided = await recorded_decision(step, application)
    if decided is not None:
        return Command(update={"application": application, "decision": decided}, goto="__end__")
    draft = await _draft(application)
    account: Account = {"id": row["id"], "status": row["status"], "annual_income": row["annual_income"]}
    checks = all_checks(draft.checks, application["amount"])
    made: Plan = {"checks": checks, "policy_question": draft.policy_question, "account": account}
    # What an earlier application left on this thread is cleared.
    fresh = {"bureau": None, "decision": None, "review": None, "reassessments": 0}
    return Command(update={"application": application, "plan": made, **fresh}, goto=checks)


def _is_planned_anew(state: State) -> bool:
    """Whether the graph came back here, with a decision that was not written. The input is there at first only."""
    decision = state.get("decision")
    return "account_id" not in state and decision is not None and not decision["recorded"]


def accept(state: State) -> Application:
    """Check the input and complete it. Without an id the application gets a fresh one, so that it is a new one.

    Raises:
        InputInvalid: A field is missing or has an impossible value.
    """
    account_id, product, amount = state.get("account_id"), state.get("product"), state.get("amount")
    if not isinstance(account_id, str) or not account_id:
        raise InputInvalid("The input needs 'account_id', for example \"A-0001\".")
    if product not in PRODUCTS:
        raise InputInvalid(f"The input needs 'product', one of {', '.join(sorted(PRODUCTS))}; it is {product!r}.")
    if isinstance(amount, bool) or not isinstance(amount, int) or amount <= 0:
        raise InputInvalid(f"The input needs 'amount', a positive number of cents; it is {amount!r}.")
    return {
        "id": state.get("application_id") or f"APP-{uuid.uuid4().hex[:16]}",
        "account_id": account_id,
        "product": product,
        "amount": amount,
        "purpose": state.get("purpose") or "not stated",
    }


def all_checks(chosen: list[Check], amount: int) -> list[str]:
    """Add the checks that are not the model's to leave out, in a fixed order."""
    needed = {*chosen, "identity", "exposure", *(["bureau"] if amount >= BUREAU_FROM else [])}
    return sorted(needed)


async def _draft(application: Application) -> PlanDraft:
    # Without the id: it may be fresh when the node runs again, and the same question must stay the same request.
    facts = {
        "product": application["product"],
        "amount_cents": application["amount"],
        "purpose": application["purpose"],
    }
    ask = await prompt("underwriting/plan")
    model = chat_model(ask, offline=rules.answer).with_structured_output(PlanDraft)
    draft = await model.ainvoke(await ask.ainvoke({"application": facts}))
    if not isinstance(draft, PlanDraft):
        raise OutputParserException("The model did not return a plan.")
    return draft
