"""Reads and ends that more than one node has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.types import Command

if TYPE_CHECKING:
    from superstep import Step
    from superstep.graphs.fraud.state import Outcome, Request, Status

__all__ = ["end", "is_decided", "point_now"]


async def is_decided(step: Step, request: Request) -> bool:
    """Whether the authorisation has been decided, by whichever run."""
    return bool(
        await step.fetchval("SELECT EXISTS (SELECT FROM fraud.decision WHERE authorisation_id = $1)", request["id"])
    )


async def point_now(step: Step) -> int:
    """The ingestion point of now: shown, and no fact, since it moves with every batch."""
    return (await step.ingestion()).point


def end(status: Status, reason: str, *, point: int | None = None, **update: Any) -> Command[str]:
    """End the run with an outcome."""
    outcome: Outcome = {"status": status, "reason": reason, "point": point}
    return Command(update={**update, "outcome": outcome}, goto="__end__")
