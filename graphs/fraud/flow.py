"""The graph: which node follows which."""

from __future__ import annotations

from langchain_core.exceptions import OutputParserException
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy
from pydantic import ValidationError

from superstep import guard
from superstep.graphs.fraud.human import human
from superstep.graphs.fraud.plan import plan
from superstep.graphs.fraud.review import review
from superstep.graphs.fraud.settle import settle
from superstep.graphs.fraud.signals import SIGNALS, device, exposure, recent, velocity
from superstep.graphs.fraud.state import State

__all__ = ["build"]

# A model that missed the schema once usually meets it at the second call.
MODEL_RETRY = RetryPolicy(max_attempts=3, retry_on=(OutputParserException, ValidationError))


def build() -> StateGraph[State]:
    """Make the graph. Nodes with `destinations` choose among them what comes next."""
    flow = StateGraph(State)
    flow.add_node("plan", plan, destinations=(*SIGNALS, END))
    flow.add_node("velocity", velocity)
    flow.add_node("exposure", exposure)
    flow.add_node("device", device)
    flow.add_node("recent", recent)
    flow.add_node("review", review, retry_policy=MODEL_RETRY, destinations=(*SIGNALS, "human", "settle"))
    flow.add_node("human", human, destinations=(*SIGNALS, "settle"))
    # Not on the four signals themselves: they move with every event of the card. `assessment` rests on the levels.
    guarded = guard(settle, on=("plan", "assessment"), otherwise="plan")
    flow.add_node("settle", guarded, destinations=("plan", END))
    flow.add_edge(START, "plan")
    # Single edges: the four run in one super-step, so `review` runs once after them.
    for signal in SIGNALS:
        flow.add_edge(signal, "review")
    return flow
