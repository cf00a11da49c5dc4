"""First node: check the request, and say from which thresholds on its signals mean something."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from langgraph.types import Command

from superstep import InputInvalid, current_step
from superstep.graphs.fraud.records import end, is_decided
from superstep.graphs.fraud.signals import SIGNALS

if TYPE_CHECKING:
    from superstep.graphs.fraud.state import Plan, Request, State

__all__ = ["thresholds_of", "plan", "read_request"]


async def plan(state: State) -> Command[str]:
    """Plan the look at an authorisation, or end at once if it was decided before or its card is on hold.

    The flow comes back here from `settle` if the card or a level has moved since. The input is there the first time
    only.

    Raises:
        InputInvalid: The request is malformed, or names a card that does not exist.
    """
    again = "authorisation_id" not in state
    request, step = state["request"] if again else read_request(state), current_step()
    # What an earlier request left on this thread is cleared.
    fresh = {"request": request, "assessment": None, "ruling": None, "facts_changed": again, "outcome": None}
    if await is_decided(step, request):
        return end("decided_before", "This authorisation has been decided.", request=request)
    card = await step.fetchrow("SELECT status, credit_limit FROM fraud.card WHERE id = $1", request["card"])
    if card is None:
        raise InputInvalid(f"There is no card {request['card']!r}. Example cards: C-1001 to C-1040.")
    if card["status"] != "active":
        return end("refused", "The card is on hold.", request=request)
    made: Plan = {"limit": card["credit_limit"], "thresholds": thresholds_of(card["credit_limit"])}
    return Command(update={**fresh, "plan": made}, goto=list(SIGNALS))


def thresholds_of(limit: int) -> dict[str, list[int]]:
    """The thresholds of the signals of a card. Exposure is measured by the card's limit: four fifths, and beyond it."""
    return {"velocity": [4, 8], "exposure": [limit * 4 // 5, limit + 1], "device": [3, 5], "recent": [5, 9]}


def read_request(state: State) -> Request:
    """Check the input.

    Raises:
        InputInvalid: A field is missing or has an impossible value.
    """
    words = {}
    for name in ("authorisation_id", "card", "device", "merchant", "at"):
        value = state.get(name)
        if not isinstance(value, str) or not value:
            raise InputInvalid(f"The input needs {name!r}, a text; it is {value!r}.")
        words[name] = value
    amount = state.get("amount")
    if isinstance(amount, bool) or not isinstance(amount, int) or amount <= 0:
        raise InputInvalid(f"The input needs 'amount', a positive number of cents; it is {amount!r}.")
    try:
        moment = datetime.fromisoformat(words["at"])
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InputInvalid(f"The input needs 'at', a time with a time zone in ISO 8601; it is {words['at']!r}.")
    return {
        "id": words["authorisation_id"],
        "card": words["card"],
        "device": words["device"],
        "merchant": words["merchant"],
        "amount": amount,
        "at": words["at"],
    }
