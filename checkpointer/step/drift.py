"""What a task is told whose facts have changed, or that has ended, and what its graph raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.errors import GraphBubbleUp

from superstep.runtime.faults import NoActiveStep, StaleRun, StepConflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Drift",
    "Rewound",
    "before_commit",
    "ended",
    "facts_changed",
    "in_the_way",
    "never_arrived",
    "withdrawn_question",
]


class Drift(StepConflict, GraphBubbleUp):
    """The facts of a task have changed.

    It is one of LangGraph's bubble-up exceptions, so neither a retry policy nor a tool node's error handling swallows
    it, and sibling tasks may finish what they are paying for.
    """


class Rewound(Drift):
    """Facts of earlier super-steps have changed: the thread goes on from the first of those."""


def facts_changed(node: str, attempts: int) -> Drift:
    """A task goes on although its facts have changed."""
    return Drift(
        f"The facts that {node!r} had read changed before its super-step could commit. "
        f"Nothing was written; run the thread again with input None, or wrap the graph in transactional().",
        tasks=[node],
        attempts=attempts,
    )


def before_commit(nodes: Iterable[str], thread_id: str, attempts: int) -> Drift:
    """A super-step cannot commit, since facts of these nodes' tasks have changed."""
    names = sorted(set(nodes))
    return Drift(
        f"Facts that {', '.join(names)} had read in thread {thread_id!r} changed before the super-step could commit. "
        f"Nothing was written; only these tasks run again when the thread is run with input None "
        f"(transactional(graph) does that).",
        tasks=names,
        attempts=attempts,
    )


def withdrawn_question(nodes: Sequence[str], thread_id: str) -> Drift:
    """A question is not to be shown: facts of these nodes' tasks have changed, of the one that asks or a sibling."""
    return Drift(
        f"Facts that {', '.join(nodes)} had read in thread {thread_id!r} changed while a question was asked. "
        f"Run the thread again with input None.",
        tasks=nodes,
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
