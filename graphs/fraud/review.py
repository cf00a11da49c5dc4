"""The reviewer: the four signals are of one moment, and a model weighs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.exceptions import OutputParserException
from langgraph.types import Command
from pydantic import BaseModel, Field

from superstep import chat_model, current_step, prompt
from superstep.graphs.fraud import rules
from superstep.graphs.fraud.signals import SIGNALS, levels_now, levels_of, point_of, seen_in

if TYPE_CHECKING:
    from superstep.graphs.fraud.state import Assessment, Levels, State

__all__ = ["HUMAN_FROM", "Verdict", "review"]

HUMAN_FROM = 50


class Verdict(BaseModel):
    """What the signals come to."""

    risk: int = Field(description="From 0, as this card always behaves, to 100, certainly not its owner.", ge=0, le=100)
    reasons: list[str] = Field(description="What speaks for it, each one sentence.")


async def review(state: State) -> Command[str]:
    """Weigh the signals, all of one ingestion point, if no threshold has been passed since; else have them read again.

    What this node rests on is how many thresholds each signal has reached, and so does what is decided here: `settle`
    is guarded by it. The values are those that the four nodes have read. A model that thinks for seconds while events
    of this very card come in is not asked again, unless one of them passes a threshold.
    """
    step, request, plan, seen = current_step(), state["request"], state["plan"], seen_in(state)
    levels = levels_of(seen, plan)
    if await levels_now(step, request, plan) != levels:
        return Command(goto=list(SIGNALS))
    verdict = await _ask(state, levels)
    made: Assessment = {
        "risk": verdict.risk,
        "reasons": verdict.reasons,
        "point": point_of(seen),
        "levels": levels,
    }
    return Command(update={"assessment": made}, goto="human" if verdict.risk >= HUMAN_FROM else "settle")


async def _ask(state: State, levels: Levels) -> Verdict:
    request, plan = state["request"], state["plan"]
    shown = {
        "merchant": request["merchant"],
        "amount_cents": request["amount"],
        "limit_cents": plan["limit"],
        "signals": {
            signal: {**seen["values"], "thresholds": plan["thresholds"][signal], "reached": levels[signal]}
            for signal, seen in seen_in(state).items()
        },
    }
    ask = await prompt("fraud/review")
    model = chat_model(ask, offline=rules.answer).with_structured_output(Verdict)
    verdict = await model.ainvoke(await ask.ainvoke({"facts": shown}))
    if not isinstance(verdict, Verdict):
        raise OutputParserException("The model did not return a verdict.")
    return verdict
