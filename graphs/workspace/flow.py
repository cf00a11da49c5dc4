"""The graph. Agents work side by side: `code` and `review` get one change each, by `Send`; `land` sees all of them."""

from __future__ import annotations

from langchain_core.exceptions import OutputParserException
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy
from pydantic import ValidationError

from superstep.graphs.workspace.code import assign, code
from superstep.graphs.workspace.land import land
from superstep.graphs.workspace.review import review
from superstep.graphs.workspace.state import Change, State

__all__ = ["build"]

# A model that missed the schema once usually meets it at the second call.
MODEL_RETRY = RetryPolicy(max_attempts=3, retry_on=(OutputParserException, ValidationError))


def build() -> StateGraph[State]:
    """Make the graph."""
    flow = StateGraph(State)
    flow.add_node("assign", assign, destinations=("code",))
    flow.add_node("code", code, input_schema=Change, retry_policy=MODEL_RETRY, destinations=("review", "code", END))
    flow.add_node("review", review, input_schema=Change, retry_policy=MODEL_RETRY, destinations=("land", "code", END))
    flow.add_node("land", land, destinations=("review", "code", END))
    flow.add_edge(START, "assign")
    return flow
