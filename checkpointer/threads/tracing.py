"""What telemetry is told of a run's super-steps and tasks. Called only while it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.checkpoint.serde.types import ERROR, INTERRUPT

from superstep.runtime.telemetry.beginning import Beginning

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from superstep.checkpointer.step.task import Attempt
    from superstep.checkpointer.threads.run import Run
    from superstep.runtime.telemetry.runs import RunTrace
    from superstep.runtime.telemetry.spans import StepTrace

__all__ = ["enter", "handed_in", "step_of"]


def step_of(run: Run, trace: RunTrace, at: tuple[str, str]) -> StepTrace:
    """The span of the super-step that began at a checkpoint of a namespace."""
    if (known := trace.known(at)) is not None:
        return known
    namespace = run.namespaces[at[0]]
    return trace.step(at, namespace.above, Beginning.ago(namespace.ms_since_last()))


def enter(run: Run, trace: RunTrace, at: tuple[str, str], attempt: Attempt) -> None:
    """The calling code belongs to this execution of a task."""
    if attempt.trace is None:
        step = step_of(run, trace, at)
        attempt.trace = step.task(attempt.task_id, attempt.node, attempt.number)
    attempt.trace.make_current()


def handed_in(
    trace: RunTrace, at: tuple[str, str], task_id: str, writes: Sequence[tuple[str, Any]], *, finished: bool
) -> None:
    """LangGraph says how a task has ended, if it has."""
    step = trace.known(at)
    if step is None:
        return
    for channel, value in writes:
        if channel == ERROR:
            step.task_ended(task_id, "failed", value)
            return
        if channel == INTERRUPT:
            step.task_ended(task_id, "interrupted")
            return
    if finished:
        step.task_ended(task_id, "finished")
