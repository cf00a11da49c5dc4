"""A thread's latest run as one JSON-ready object: what `runtime run --json` prints."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from superstep.runtime.flow.jsonable import jsonable

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from superstep.checkpointer import LatestRun, StepRecord

__all__ = ["RunReport", "run_report"]

_STEP_FIELDS = (
    "step",
    "nodes",
    "checkpoint_id",
    "checkpoint_ns",
    "attempts",
    "repairs",
    "drifts",
    "escalated",
    "commit",
    "reads",
    "writes",
    "prompts",
    "guards",
    "resolved",
    "llm_paid",
    "llm_reused",
    "usd",
    "calls",
    "ms",
)


@dataclasses.dataclass(frozen=True, slots=True)
class RunReport:
    """What happened in the latest run of a thread.

    Attributes:
        thread_id: the thread.
        graph: the name the graph was run under, if it was given one.
        status: "completed", "interrupted", "failed", or "unfinished" for a run that was stopped or killed.
        values: the state after the last committed super-step.
        interrupts: open questions: `id`, `value`, and `facts_changed` if the question was asked before about facts
            that have moved since, or its answer led to a write that the database rejected.
        steps: the committed super-steps of the run.
        usage: `llm_paid`, `llm_reused`, `input_tokens`, `output_tokens`, `usd`, and `offline` if no real model was
            called. `usd` is the sum of what is known; 0 for offline models, `None` where no price is known.
        error: `type` and `message` of what the run failed with.
    """

    thread_id: str
    graph: str | None
    status: str
    values: Any
    interrupts: list[dict[str, Any]]
    steps: list[StepRecord]
    usage: dict[str, Any]
    error: dict[str, str] | None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "thread_id": self.thread_id,
            "graph": self.graph,
            "status": self.status,
            "values": jsonable(self.values),
            "interrupts": jsonable(self.interrupts),
            "steps": [{name: getattr(step, name) for name in _STEP_FIELDS} for step in self.steps],
            "usage": self.usage,
            "error": self.error,
        }


def run_report(thread_id: str, graph: str | None, latest: LatestRun, state: StateSnapshot) -> RunReport:
    """Put a thread's latest run together with its state.

    Args:
        thread_id: the thread.
        graph: its graph's name, for a thread that has none on record.
        latest: what the run did.
        state: what LangGraph says the thread is at.
    """
    thread = latest.thread
    error = None
    if thread is not None and thread.error:
        kind, _, message = thread.error.partition(": ")
        error = {"type": kind, "message": message}
    return RunReport(
        thread_id=thread_id,
        graph=thread.graph if thread else graph,
        status=thread.status if thread else "unfinished",
        values=state.values,
        interrupts=[
            {"id": i.id, "value": i.value, **({"facts_changed": True} if task.id in latest.asked_again else {})}
            for task in state.tasks
            for i in task.interrupts
        ],
        steps=latest.steps,
        usage={**latest.usage, "llm_reused": sum(step.llm_reused for step in latest.steps)},
        error=error,
    )
