"""What a task is told whose facts have changed, or that has ended, and what its graph raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.errors import GraphBubbleUp

from superstep.runtime.faults import NoActiveStep, StaleRun, StepConflict

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Drift", "ended", "facts_changed", "in_the_way", "never_arrived"]


class Drift(StepConflict, GraphBubbleUp):
    """The facts of a task have changed.

    It is one of LangGraph's bubble-up exceptions, so neither a retry policy nor a tool node's error handling swallows
    it, and sibling tasks may finish what they are paying for.
    """


def facts_changed(node: str, attempts: int) -> Drift:
    """A task goes on although its facts have changed."""
    return Drift(
        f"The facts that {node!r} had read changed before its super-step could commit. "
        f"Nothing was written; run the thread again with input None, or wrap the graph in transactional().",
        tasks=[node],
        attempts=attempts,
    )


def in_the_way(node: str, attempts: int) -> Drift:
    """Other transactions have aborted every try of a read."""
    return Drift(
        f"Other transactions kept getting in the way of what {node!r} reads. No fact is known to have changed, and "
        f"nothing was written; run the thread again with input None, or wrap the graph in transactional().",
        tasks=[node],
        attempts=attempts,
    )


def ended(node: str) -> NoActiveStep:
    """A task, or its super-step, is over."""
    return NoActiveStep(
        f"The super-step of {node!r} has ended, or {node!r} has returned: what outlives its node cannot read or write "
        f"there. Await in the node what it starts."
    )


def never_arrived(task_ids: Sequence[str], thread_id: str) -> StaleRun:
    """LangGraph commits a super-step, and has not handed these tasks' results in."""
    return StaleRun(
        f"Tasks {task_ids} of thread {thread_id!r} used their step, but their results never arrived. Nothing was "
        f"committed; continue with `runtime resume`."
    )
