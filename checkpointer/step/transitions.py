"""Declared transitions between the states of a record, checked when they happen. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from superstep.runtime.faults import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Mapping, Set
    from enum import Enum

__all__ = ["check_transition"]

E = TypeVar("E", bound="Enum")


def check_transition(allowed: Mapping[E, Set[E]], now: E, then: E, what: str) -> None:
    """Raise `IllegalTransition` unless `allowed` leads from one state to the other."""
    if then not in allowed[now]:
        raise IllegalTransition(
            f"{what} is {now.value} and cannot become {then.value}. This is a defect of superstep: nothing was "
            f"stored; continue with `runtime resume`, and please report it."
        )
