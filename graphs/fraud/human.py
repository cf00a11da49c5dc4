"""A human decides what looks risky."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.types import Command, interrupt

from superstep import current_step
from superstep.graphs.fraud.signals import SIGNALS, levels_now, seen_in

if TYPE_CHECKING:
    from superstep.graphs.fraud.state import Ruling, State

__all__ = ["human", "read_answer"]

HOW_TO_ANSWER = 'Answer {"by": "<who you are>", "block": true or false, "note": "…"}.'


async def human(state: State) -> Command[str]:
    """Ask whether to block.

    The levels are read before the question is put. When the answer comes, maybe hours later and in another process,
    they are read again. Unmoved: the answer counts. Moved: it does not; the signals are read and weighed anew, and the
    question comes again with `facts_changed`.
    """
    step, request, assessment = current_step(), state["request"], state["assessment"]
    assert assessment is not None  # noqa: S101 - `review` is the only way here
    if await levels_now(step, request, state["plan"]) != assessment["levels"]:
        return Command(update={"facts_changed": True}, goto=list(SIGNALS))
    question = {
        "question": f"Block {request['card']} and its {request['amount'] / 100:,.2f} at {request['merchant']}?",
        "request": request,
        "risk": assessment["risk"],
        "reasons": assessment["reasons"],
        "signals": {signal: seen["values"] for signal, seen in seen_in(state).items()},
        "facts_changed": step.facts_changed or state.get("facts_changed", False),
        "how_to_answer": HOW_TO_ANSWER,
    }
    answer = interrupt(question)
    while isinstance(ruling := read_answer(answer), str):
        answer = interrupt({**question, "problem": ruling})
    return Command(update={"ruling": ruling}, goto="settle")


def read_answer(answer: Any) -> Ruling | str:
    """Understand an answer, or say what is wrong with it."""
    if not isinstance(answer, dict) or not isinstance(answer.get("block"), bool) or not answer.get("by"):
        return f"The answer was not understood. {HOW_TO_ANSWER}"
    return {"by": str(answer["by"]), "block": answer["block"], "note": str(answer.get("note", ""))}
