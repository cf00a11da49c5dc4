"""The state of a thread at a checkpoint, in plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.threads import checkpoint_state, recorded_graph, thread_config
from superstep.runtime.faults import GraphInvalid, GraphNotFound, ThreadNotFound
from superstep.runtime.masking import without_password
from superstep.runtime.settings.shown import shell_word

if TYPE_CHECKING:
    from superstep.checkpointer import ThreadSummary, TransactionalSaver

__all__ = ["described_state"]


async def described_state(saver: TransactionalSaver, summary: ThreadSummary, checkpoint: str | None) -> dict[str, Any]:
    """Describe a thread at its head, or at a checkpoint.

    Values, next nodes and tasks are LangGraph's view and need the graph. If it cannot be loaded, the stored channels
    are shown instead, and `note` says why.

    Args:
        saver: Only read from.
        summary: The thread's summary.
        checkpoint: A checkpoint of it, or `None` for the latest.

    Returns:
        `thread_id`, `graph`, `status`, `runner`, `checkpoint_id`, `created_at`, `values`, `next`, `interrupts`,
        `tasks`, `note`.

    Raises:
        ThreadNotFound: The thread has no such checkpoint.
    """
    from superstep.runtime.loading.loader import load_graph

    about = {"thread_id": summary.thread_id, "graph": summary.graph, "status": summary.status, "runner": summary.runner}
    try:
        loaded = await load_graph(recorded_graph(summary))
        try:
            state = await checkpoint_state(saver, loaded, summary.thread_id, checkpoint)
        finally:
            await loaded.aclose()
    except (GraphNotFound, GraphInvalid) as error:
        return about | await _raw(saver, summary.thread_id, checkpoint) | {"note": f"Stored channels only. {error}"}
    return about | {
        "checkpoint_id": state.config["configurable"]["checkpoint_id"],
        "created_at": state.created_at,
        "values": state.values,
        "next": list(state.next),
        "interrupts": [{"id": interrupt.id, "value": interrupt.value} for interrupt in state.interrupts],
        "tasks": [
            {
                "name": task.name,
                "id": task.id,
                "error": task.error and without_password(str(task.error)),
                "result": task.result,
            }
            for task in state.tasks
        ],
        "note": None,
    }


async def _raw(saver: TransactionalSaver, thread: str, checkpoint: str | None) -> dict[str, Any]:
    from superstep.checkpointer import INTERRUPT, is_private_channel, plain

    stored = await saver.aget_tuple(thread_config(thread, checkpoint))
    if stored is None:
        raise ThreadNotFound(
            f"The thread {thread} has no checkpoint {checkpoint}. See: runtime history {shell_word(thread)}"
        )
    channels = stored.checkpoint["channel_values"]
    return {
        "checkpoint_id": stored.checkpoint["id"],
        "created_at": stored.checkpoint["ts"],
        "values": {name: plain(value) for name, value in channels.items() if not is_private_channel(name)},
        "next": [],
        "interrupts": [
            {"id": interrupt.id, "value": interrupt.value}
            for _, channel, value in stored.pending_writes or []
            if channel == INTERRUPT
            for interrupt in value
        ],
        "tasks": [],
    }
