"""The graph: which node follows which. Each node says by `Command` what comes next."""

from __future__ import annotations

from langchain_core.exceptions import OutputParserException
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy
from pydantic import ValidationError

from superstep.graphs.approvals.accept import accept
from superstep.graphs.approvals.approve import approve
from superstep.graphs.approvals.book import book
from superstep.graphs.approvals.case import case
from superstep.graphs.approvals.sanctions import SanctionsUnavailable
from superstep.graphs.approvals.screen import screen
from superstep.graphs.approvals.state import State

__all__ = ["build"]

# A model that missed the schema once usually meets it at the second call.
MODEL_RETRY = RetryPolicy(max_attempts=3, retry_on=(OutputParserException, ValidationError))
SERVICE_RETRY = RetryPolicy(max_attempts=3, initial_interval=0.1, backoff_factor=3.0, retry_on=SanctionsUnavailable)


def build() -> StateGraph[State]:
    """Make the graph."""
    flow = StateGraph(State)
    flow.add_node("accept", accept, destinations=("screen", END))
    flow.add_node("screen", screen, retry_policy=SERVICE_RETRY, destinations=("case", "approve", END))
    flow.add_node("case", case, retry_policy=MODEL_RETRY)
    flow.add_node("approve", approve, destinations=("approve", "book", "screen", END))
    flow.add_node("book", book, destinations=("approve", "screen", END))
    flow.add_edge(START, "accept")
    flow.add_edge("case", "approve")
    return flow
