"""The numbers of a side, from what its database and its logs say. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Numbers", "Recorded", "numbers"]


@dataclass(slots=True)
class Recorded:
    """What a side left behind.

    Attributes:
        draws: rows of `draw`, in the order of commits for each account; see `tables.sql`.
        decisions: rows of `decision`.
        accounts: rows of `account` with those of `velocity`.
        ages: milliseconds from the read that a plan was made on to the draw, by flow.
        invalidated: times that an executor found the room of its plan gone.
        llm_paid: requests that the model began to answer.
        llm_reused: answers that were served again instead.
        ran_again: executions of nodes beyond the first one of a super-step, because facts had changed.
        seconds: from the first flow's start to the last one's end.
    """

    draws: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    accounts: list[dict[str, Any]] = field(default_factory=list)
    ages: dict[str, float] = field(default_factory=dict)
    invalidated: int = 0
    llm_paid: int = 0
    llm_reused: int = 0
    ran_again: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is compared. Amounts in cents, ages in milliseconds.

    Attributes:
        decided: applications with a decision.
        approved: those that were approved.
        wrong_decisions: decisions that are not those of the committed order, one after the other: draws that the
            account did not allow when they were committed, and declines of what it did allow.
        double_spends: draws beyond the credit line: of room that was spent before.
        overdrawn: what the lines are exceeded by in the end.
        moved: draws whose account was not any more as the planner had read it.
        divergence: the largest difference between what the planner had read as drawn, and what was at the draw.
        age_ms: median age of what the planner had read, at the draw.
        plans_executed_invalid: plans that were carried out although the account did not allow them any more.
        plans_caught: plans that were found to have no room any more, and made again.
        llm_paid: see `Recorded`, as the next three.
        llm_reused: see there.
        ran_again: see there.
        seconds: see there.
    """

    decided: int
    approved: int
    wrong_decisions: int
    double_spends: int
    overdrawn: int
    moved: int
    divergence: int
    age_ms: float
    plans_executed_invalid: int
    plans_caught: int
    llm_paid: int
    llm_reused: int
    ran_again: int
    seconds: float

    @property
    def right(self) -> bool:
        """Whether every decision is right, and no line exceeded."""
        return not (self.wrong_decisions or self.double_spends or self.overdrawn)


def numbers(found: Recorded) -> Numbers:
    """Count. What a draw was made on is what its own transaction noted of the rows it had locked."""
    not_allowed = [draw for draw in found.draws if not _allows(draw, draw["drawn_before"], draw["today_before"])]
    declined = [each for each in found.decisions if each["outcome"] == "decline"]
    gaps = [abs(draw["drawn_before"] - draw["planned_drawn"]) for draw in found.draws]
    return Numbers(
        decided=len(found.decisions),
        approved=len(found.decisions) - len(declined),
        wrong_decisions=len(not_allowed) + sum(_allows(each, each["drawn"], each["today"]) for each in declined),
        double_spends=sum(draw["drawn_before"] + draw["amount"] > draw["credit_limit"] for draw in found.draws),
        overdrawn=sum(max(0, each["drawn"] - each["credit_limit"]) for each in found.accounts),
        moved=sum(gap > 0 for gap in gaps),
        divergence=max(gaps, default=0),
        age_ms=median(found.ages.values()) if found.ages else 0.0,
        plans_executed_invalid=len(not_allowed),
        plans_caught=found.invalidated,
        llm_paid=found.llm_paid,
        llm_reused=found.llm_reused,
        ran_again=found.ran_again,
        seconds=found.seconds,
    )


def _allows(row: Mapping[str, Any], drawn: int, today: int) -> bool:
    """Whether an account with so much drawn allows the amount of the row."""
    return bool(drawn + row["amount"] <= row["credit_limit"] and today + row["amount"] <= row["most_today"])
