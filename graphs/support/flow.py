"""The graph: which node follows which."""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph

from superstep import guard
from superstep.graphs.support.agent import agent
from superstep.graphs.support.assess import assess
from superstep.graphs.support.pay import pay
from superstep.graphs.support.receive import receive
from superstep.graphs.support.review import review
from superstep.graphs.support.state import State

__all__ = ["build"]


def build() -> StateGraph[State]:
    """Make the graph. Compile it with the saver's store."""
    flow = StateGraph(State)
    flow.add_node("receive", receive)
    flow.add_node("agent", agent)
    flow.add_node("assess", assess, destinations=("assess", "review", "pay", END))
    flow.add_node("review", review, destinations=("assess", "pay"))
    # Between the assessment and the payment may lie a supervisor's night. What `assess` has read holds when `pay`
    # commits, or it is assessed again.
    flow.add_node("pay", guard(pay, on="refund", otherwise="assess"), destinations=("assess", "review"))
    flow.add_edge(START, "receive")
    flow.add_edge("receive", "agent")
    flow.add_edge("agent", "assess")
    return flow
