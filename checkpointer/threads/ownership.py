"""One writer per thread: what a run is told that has lost its thread, or has no barrier.

Loading a thread to run it raises the fencing token in its row (`claim`). Every statement that stores something for a
run requires that token under the row's lock, so a worker that was paused and wakes up late, or that lost the thread to
`runtime resume`, stores nothing: not a checkpoint, not a pending write, not a discard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.faults import ConfigError, GraphChanged, StaleRun, ThreadBusy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.threads.summaries import Runner

__all__ = ["busy", "graph_changed", "moved_on", "no_barrier", "stale"]


def busy(thread_id: str, runner: Runner) -> ThreadBusy:
    """The error for those who asked before they took a thread, of which another process has a run under way."""
    return ThreadBusy(f"Thread {thread_id!r} is being run by {runner}.")


def graph_changed(thread_id: str, had: str, has: str, missing: Sequence[str], why: str = "") -> GraphChanged:
    """The error for a thread with unfinished work that a graph cannot go on with, or that could not be lifted."""
    what = f"It needs {'; '.join(missing)}." if missing else "Their author says that they do not fit."
    return GraphChanged(
        f"Thread {thread_id!r} has left work unfinished with version {had!r} of its graph; this is version {has!r}. "
        f"{why or what} Nothing was run or changed. Resume the thread with code of that version, give the graph a "
        f"`migrate(state, from_version)` that lifts its state, or give the thread new input, which drops that work.",
        thread_id=thread_id,
        had=had,
        has=has,
        missing=missing,
    )


def stale(thread_id: str) -> StaleRun:
    """The error for a run that lost its thread."""
    return StaleRun(
        f"Thread {thread_id!r} was taken over by a later run, or its state was changed from outside, so this run was "
        f"stopped before committing anything more. The later run carries on; to continue from the thread's latest "
        f"state use `runtime resume`, or invoke the graph with input None."
    )


def moved_on(thread_id: str, checkpoint_id: str | None) -> StaleRun:
    """The error for a change from outside that was made of a checkpoint which is not the latest any more."""
    of = f"of checkpoint {checkpoint_id}, which is" if checkpoint_id else "of no checkpoint: that is"
    return StaleRun(
        f"Thread {thread_id!r} has moved on. The change was made {of} not its latest state any more, so nothing was "
        f"stored. Load the latest state and change that; with a checkpoint_id in the config, update_state forks."
    )


def no_barrier(thread_id: str) -> ConfigError:
    """The error for facts and staged writes in a run that is saved only when it ends."""
    return ConfigError(
        f'The run of thread {thread_id!r} has durability="exit", which saves nothing between super-steps, so there is '
        f"no barrier at which what a task reads could be validated and what it stages be applied. Run it with "
        f'durability="sync" or "async", do not use current_step() in it, or wrap the graph in transactional().'
    )


def shared_subgraph(thread_id: str, ns: str) -> ConfigError:
    """The error for the step of a subgraph that several tasks run at once."""
    return ConfigError(
        f"Subgraph {ns!r} of thread {thread_id!r} keeps its state from call to call (checkpointer=True), and several "
        f"tasks run it at the same time. Their super-steps share one history, so what its nodes read and stage cannot "
        f"be told apart. Compile it with checkpointer=None, let one task at a time run it (max_concurrency=1), or do "
        f"not use current_step() in it."
    )
