"""A commit with its spans, while telemetry is on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.threads.tracing import step_of
from superstep.runtime.telemetry import names
from superstep.runtime.telemetry.beginning import Beginning

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from superstep.checkpointer.commit.barrier import Barrier
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.threads.run import Run
    from superstep.runtime.telemetry.runs import RunTrace

__all__ = ["committed", "keep_trace"]


def keep_trace(run: Run | None, ns: str, metadata: dict[str, Any]) -> None:
    """Note with a checkpoint of the outermost graph which trace its run belongs to, for those that resume it."""
    if run is not None and run.options.trace is not None and ns == "" and run.options.trace.traceparent is not None:
        metadata[names.TRACEPARENT] = run.options.trace.traceparent


def committed(barrier: Barrier) -> Coroutine[Any, Any, None]:
    """What to await to have it committed. See `Barrier.commit`."""
    trace = barrier.run.options.trace
    if trace is None or not (barrier.ends_step and barrier.nodes):
        return barrier.commit()
    return _traced(barrier, trace)


async def _traced(barrier: Barrier, trace: RunTrace) -> None:
    """Commits without reads and staged writes are one statement, and have no span of their own."""
    run, at = barrier.run, (barrier.ns, barrier.parent_id or "")
    step = run.steps.get(at)
    bare = step is None or barrier.is_one_statement
    if bare and not barrier.ns:
        namespace = run.namespaces[""]
        began = Beginning.ago(namespace.ms_since_last())
        try:
            await barrier.commit()
        except BaseException:
            trace.step(at, namespace.above, began)  # which stays until the run says how it ended
            raise
        trace.passed(at, began, barrier.nodes, {} if step is None else _costs(step))
        return
    traced = step_of(run, trace, at)
    if step is None or bare:
        await barrier.commit()
        traced.committed(barrier.nodes, {} if step is None else _costs(step))
        return
    repairs, began = step.costs.repairs, Beginning.ago()
    kind = "direct" if step.snapshot.is_held or not step.has_reads else "replay"
    try:
        await barrier.commit()
    except BaseException as error:
        traced.commit(began, {}, error)
        raise
    more = step.costs.repairs - repairs
    said = {names.COMMIT: "replay" if more else kind, **_facts(step)}
    traced.commit(began, {**said, names.REPAIRS: more})
    trace.count("repairs", step.costs.repairs)
    trace.count("drifts", step.costs.drifts)
    traced.committed(barrier.nodes, {**said, **_costs(step)})


def _facts(step: SuperStep) -> dict[str, Any]:
    effects = step.tasks.effects
    return {
        names.READS: sum(len(effect.reads) for effect in effects),
        names.WRITES: sum(len(effect.staged) for effect in effects),
    }


def _costs(step: SuperStep) -> dict[str, Any]:
    costs = step.costs
    return {
        names.ATTEMPTS: costs.attempts,
        names.REPAIRS: costs.repairs,
        names.DRIFTS: costs.drifts,
        names.ESCALATED: costs.escalated,
        names.REUSED: costs.llm_reused,
    }
