"""How a parent waits for a child: an interrupt that no human answers. Pure.

LangGraph hands out answers by their number: the first one to the first `interrupt()` of a node, and so on. Whether a
child has ended differs from one execution of a node to the next, so it must not take part in that counting: an answer
of a human would reach another question. So `Step.result` does not call `interrupt()`. It looks whether the child has
ended, which once true stays true, and stops the task with an interrupt of its own if it has not. What wakes the parent
carries no answer: the node runs again, and looks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from langgraph.types import Interrupt

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

__all__ = ["EXPIRED", "Terms", "awaited", "awaits_children_only", "for_child", "has_expired"]

_CHILD = "superstep:child"
EXPIRED = {"superstep:expired": True}
"""What a question whose time is over is answered with, if its node has named nothing else."""


class Terms(NamedTuple):
    """Until when a question stands, and the JSON document that it is answered with then."""

    expires: timedelta | datetime
    otherwise: str


def for_child(child_id: str, thread_id: str, graph: str) -> Interrupt[Any]:
    """The interrupt of a task that waits for a child."""
    return Interrupt(value={_CHILD: thread_id, "graph": graph}, id=child_id)


def awaited(question: Interrupt[Any]) -> str | None:
    """The thread of the child that a task waits for; `None` if it asks something else."""
    value = question.value
    thread = value.get(_CHILD) if isinstance(value, dict) else None
    return thread if isinstance(thread, str) else None


def awaits_children_only(asked: Iterable[Interrupt[Any]]) -> bool:
    """Whether these are questions, and none of them is for a human."""
    asked = list(asked)
    return bool(asked) and all(awaited(each) is not None for each in asked)


def has_expired(answer: object) -> bool:
    """Whether an answer says that the time of its question is over."""
    return answer == EXPIRED
