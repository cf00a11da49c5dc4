"""A thread's latest run as one JSON-ready object: what `runtime run --json` prints."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from superstep.runtime.flow.jsonable import jsonable

if TYPE_CHECKING:
    from superstep.checkpointer import StepRecord

__all__ = ["RunReport"]

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
            that have moved since.
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
