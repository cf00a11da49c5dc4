"""The graph: which node follows which."""

from __future__ import annotations

from langchain_core.exceptions import OutputParserException
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy
from pydantic import ValidationError

from superstep import guard
from superstep.graphs.underwriting.bureau import BureauUnavailable
from superstep.graphs.underwriting.checks import bureau, exposure, identity, policy
from superstep.graphs.underwriting.commit import commit
from superstep.graphs.underwriting.decide import decide
from superstep.graphs.underwriting.plan import plan
from superstep.graphs.underwriting.review import review
from superstep.graphs.underwriting.state import State

__all__ = ["build"]

CHECKS = ("identity", "bureau", "exposure")

# A model that missed the schema once usually meets it at the second call.
MODEL_RETRY = RetryPolicy(max_attempts=3, retry_on=(OutputParserException, ValidationError))
BUREAU_RETRY = RetryPolicy(max_attempts=3, initial_interval=0.1, backoff_factor=3.0, retry_on=BureauUnavailable)


def build() -> StateGraph[State]:
    """Make the graph. Nodes with `destinations` choose among them what comes next."""
    flow = StateGraph(State)
    flow.add_node("plan", plan, retry_policy=MODEL_RETRY, destinations=(*CHECKS, END))
    flow.add_node("identity", identity)
    flow.add_node("bureau", bureau, retry_policy=BUREAU_RETRY)
    flow.add_node("exposure", exposure)
    flow.add_node("policy", policy)
    flow.add_node("decide", decide, retry_policy=MODEL_RETRY, destinations=("review", "commit"))
    flow.add_node("review", review, destinations=("exposure", "commit"))
    # Who the applicant is may change while a human thinks: then the application is planned anew. What the line has room
    # for is `commit`'s own to ask, as a condition: a guard on the exposure would not let other draws pass.
    # Applications of 0.1.0 that still wait for a human were planned before there was a guard: they go on without.
    guarded = guard(commit, on=("plan", "identity"), otherwise="plan", unknown="run")
    flow.add_node("commit", guarded, destinations=("plan", "exposure", END))
    flow.add_edge(START, "plan")
    # Three single edges, not one that waits for all: the checks run in one super-step, so `policy` runs once after
    # them, and a reassessment can enter at `exposure` alone.
    for check in CHECKS:
        flow.add_edge(check, "policy")
    flow.add_edge("policy", "decide")
    return flow
