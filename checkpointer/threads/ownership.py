"""One writer per thread: what a run is told that has lost its thread.

Loading a thread to run it raises the fencing token in its row (`claim`). Every statement that stores something for a
run requires that token under the row's lock, so a worker that was paused and wakes up late, or that lost the thread to
`runtime resume`, stores nothing: not a checkpoint, not a pending write, not a discard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.faults import StaleRun, ThreadBusy

if TYPE_CHECKING:
    from superstep.checkpointer.threads.summaries import Runner

__all__ = ["busy", "moved_on", "stale"]


def busy(thread_id: str, runner: Runner) -> ThreadBusy:
    """The error for those who asked before they took a thread, of which another process has a run under way."""
    return ThreadBusy(f"Thread {thread_id!r} is being run by {runner}.")


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
