"""The error for a transition between states of a record that its module does not declare. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.faults import IllegalTransition

if TYPE_CHECKING:
    from enum import Enum

__all__ = ["illegal_transition"]


def illegal_transition(now: Enum, then: Enum, what: str) -> IllegalTransition:
    """What to raise when a record in one state is to be in another, to which no declared transition leads."""
    return IllegalTransition(
        f"{what} is {now.value} and cannot become {then.value}. This is a defect of superstep: nothing was "
        f"stored; continue with `runtime resume`, and please report it."
    )
