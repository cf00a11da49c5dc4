"""One queued run, from wherever it was left to its end or to a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer import INTERRUPT, Delivery, from_latest
from superstep.runtime.flow.transactional import DELIVERY
from superstep.runtime.telemetry.switch import active

if TYPE_CHECKING:
    from langgraph.runtime import RunControl

    from superstep.checkpointer import Claimed, Request, TransactionalSaver
    from superstep.runtime.flow.transactional import Transactional

__all__ = ["config_of", "output_of", "perform"]


def config_of(run: Claimed, request: Request) -> dict[str, Any]:
    """LangGraph's config of a run. Its id goes into the metadata of the checkpoints, which say how far it has come."""
    given = request.config
    return {
        **given,
        "configurable": {**given.get("configurable", {}), "thread_id": run.thread_id},
        "metadata": {**given.get("metadata", {}), "run_id": str(run.run_id)},
    }


async def perform(
    flow: Transactional,
    saver: TransactionalSaver,
    run: Claimed,
    request: Request,
    control: RunControl,
    *,
    begun: bool,
    delivery: Delivery | None = None,
) -> str:
    """Run it. Whatever it raises is the run's error, a `GraphDrained` of the control included.

    Args:
        flow: its graph.
        saver: of the flow.
        run: as this worker was given it.
        request: what it is entered with.
        control: drains it.
        begun: its input is in the thread already: go on from there.
        delivery: on what terms it takes the thread; by default as the run was given out.

    Returns:
        "completed" or "interrupted".
    """
    config, payload = config_of(run, request), request.input
    if begun:
        if (state := await _left_at(flow, saver, run.thread_id)) is not None:
            return state
        payload, config = None, from_latest(config)
    state = "completed"
    given = delivery or Delivery(run.run_id, run.delivery)
    how: dict[str, Any] = {DELIVERY: given, "control": control, "context": request.context}
    with active.within(request.traceparent):
        async for chunk in flow.astream(payload, config, stream_mode="updates", **how):  # type: ignore[arg-type]  # a plain dict
            if INTERRUPT in chunk:
                state = "interrupted"
    return state


async def output_of(flow: Transactional, thread_id: str) -> Any:
    """What a thread that has completed has put out: what `ainvoke` would have returned."""
    values = (await flow.aget_state({"configurable": {"thread_id": thread_id}})).values
    channels = flow.output_channels
    if isinstance(channels, str) or not isinstance(values, dict):
        return values
    return {name: values[name] for name in channels if name in values}


async def _left_at(flow: Transactional, saver: TransactionalSaver, thread_id: str) -> str | None:
    """How the thread stands, if there is nothing to go on with."""
    summary = await saver.athread(thread_id)
    if summary is not None and summary.status == "interrupted":
        return "interrupted"
    state = await flow.aget_state({"configurable": {"thread_id": thread_id}})
    if not state.tasks:
        return "completed"
    open_tasks = [task for task in state.tasks if task.result is None and task.error is None]
    return "interrupted" if state.interrupts and all(task.interrupts for task in open_tasks) else None
