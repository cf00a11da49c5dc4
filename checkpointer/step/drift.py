"""What a task is told whose facts have changed, and what its graph raises."""

from __future__ import annotations

from langgraph.errors import GraphBubbleUp

from superstep.runtime.faults import StepConflict

__all__ = ["Drift"]


class Drift(StepConflict, GraphBubbleUp):
    """The facts of a task have changed.

    It is one of LangGraph's bubble-up exceptions, so neither a retry policy nor a tool node's error handling swallows
    it, and sibling tasks may finish what they are paying for.
    """
