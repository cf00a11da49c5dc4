"""Threads by their id: the summary, the graph they were started with, and their state at a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.session import where
from superstep.runtime.faults import GraphNotFound, ThreadBusy, ThreadNotFound
from superstep.runtime.settings.shown import shell_word

if TYPE_CHECKING:
    from langgraph.types import StateSnapshot

    from superstep.checkpointer import StoredThreads, ThreadSummary, TransactionalSaver
    from superstep.runtime.loading.loader import LoadedGraph
    from superstep.runtime.settings.settings import CommandSettings

LEAST_PREFIX = 4  # characters of an id that may stand for it
_ENOUGH = 4  # ids with one beginning: to tell that there are several, and name three

__all__ = [
    "LEAST_PREFIX",
    "checkpoint_state",
    "full_checkpoint",
    "recorded_graph",
    "refuse_running",
    "thread_config",
    "thread_summary",
]


async def thread_summary(stored: StoredThreads, thread: str, settings: CommandSettings) -> ThreadSummary:
    """Return the summary of a thread, by its id or by the beginning of it that no other thread has.

    Raises:
        ThreadNotFound: There is no such thread, or several begin like that.
    """
    summary = await stored.athread(thread)
    if summary is None and len(thread) >= LEAST_PREFIX:
        found = await stored.athread_ids(thread, _ENOUGH)
        if len(found) > 1:
            ids = ", ".join(found[:3])
            many = str(len(found)) if len(found) < _ENOUGH else "Several"
            raise ThreadNotFound(f"{many} threads begin with {thread}: {ids}{', …' if len(found) > 3 else ''}.")
        summary = await stored.athread(found[0]) if found else None
    if summary is None:
        raise ThreadNotFound(f"There is no thread {thread} in {where(settings)}. List them with: runtime threads")
    return summary


def refuse_running(summary: ThreadSummary, *, take_over: bool) -> None:
    """Refuse a thread that another process is running, unless it is to be taken over.

    Raises:
        ThreadBusy: It is run; the message says by whom and since when.
    """
    if summary.runner is not None and not take_over:
        raise ThreadBusy(f"The thread {summary.thread_id} is being run by {summary.runner}.")


async def full_checkpoint(stored: StoredThreads, thread: str, given: str) -> str:
    """Return the id of a checkpoint by the beginning of it that no other of the thread has; anything else as it is.

    Raises:
        ThreadNotFound: Several begin like that.
    """
    found = await stored.astep_ids(thread, given, _ENOUGH) if len(given) >= LEAST_PREFIX else []
    if given in found or not found:
        return given
    if len(set(found)) > 1:
        raise ThreadNotFound(
            f"{len(found)} checkpoints of {thread} begin with {given}. See: runtime history {shell_word(thread)}"
        )
    return found[0]


def recorded_graph(summary: ThreadSummary) -> str:
    """Return the name of the graph a thread was started with.

    Raises:
        GraphNotFound: Something else than these commands started it, and gave no name.
    """
    if summary.graph is None:
        raise GraphNotFound(f"The thread {summary.thread_id} does not say which graph it belongs to.")
    return summary.graph


def thread_config(thread: str, checkpoint: str | None = None) -> Any:
    """Return the LangGraph config of a thread, at one of its checkpoints or else at its head."""
    at = {"checkpoint_id": checkpoint, "checkpoint_ns": ""} if checkpoint else {}
    return {"configurable": {"thread_id": thread, **at}}


async def checkpoint_state(
    saver: TransactionalSaver, loaded: LoadedGraph, thread: str, checkpoint: str | None
) -> StateSnapshot:
    """Return LangGraph's snapshot of a thread, at its checkpoint if one is named.

    Raises:
        ThreadNotFound: The thread has no such checkpoint.
    """
    config = thread_config(thread, checkpoint)
    if await saver.aget_tuple(config) is None:
        missing = f"checkpoint {checkpoint}" if checkpoint else "checkpoint yet"
        raise ThreadNotFound(f"The thread {thread} has no {missing}. See: runtime history {shell_word(thread)}")
    return await loaded.compile(saver).aget_state(config)
