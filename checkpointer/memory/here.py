"""Whether the calling code belongs to a super-step of this saver, and to which task of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from superstep.checkpointer.memory.rows import Fact, Origin
from superstep.checkpointer.threads.current import current_step, paying_task
from superstep.runtime.faults import NoActiveStep

if TYPE_CHECKING:
    from superstep.checkpointer.database.loop import HomeLoop
    from superstep.checkpointer.step.step import Step
    from superstep.checkpointer.step.task import Attempt
    from superstep.checkpointer.threads.current import CurrentTask
    from superstep.checkpointer.threads.registry import Registry

__all__ = ["Here", "here", "refuse_blocking"]


@dataclass(frozen=True, slots=True)
class Here:
    """The task that the calling code belongs to.

    Attributes:
        step: what it reads and stages with.
        task: which one it is.
        attempt: the log of this execution.
    """

    step: Step
    task: CurrentTask
    attempt: Attempt

    def origin(self) -> Origin:
        """Where an item comes from that is put now."""
        place = self.task.place
        facts = tuple(Fact(read.sql, read.digest.hex()) for read in self.attempt.reads)
        return Origin(place.thread_id, place.ns, self.task.checkpoint_id, place.task_id, place.node, facts)


def here(runs: Registry) -> Here | None:
    """The task of a super-step of the saver with this registry; `None` outside.

    Call where the node's code runs: what it belongs to is known there only.

    Raises:
        StaleRun: the run has lost its thread, or has ended: what it leaves behind must not be stored.
        ConfigError: the task belongs to a graph whose super-steps do not commit by themselves, or not at all.
        StepConflict: what the task has read has changed. Do not catch it: it makes the task run again.
    """
    try:
        task = paying_task()
    except NoActiveStep:
        return None
    if task.runs is not runs:
        return None
    step = current_step()
    return Here(step, task, task.enter()[1])


class _WouldBlock(NoActiveStep, asyncio.InvalidStateError):
    """What LangGraph's asynchronous stores raise, too."""


def refuse_blocking(home: HomeLoop) -> None:
    """Refuse a synchronous call on the event loop that would have to serve it.

    Raises:
        NoActiveStep: it is one; also an `asyncio.InvalidStateError`, as in LangGraph's stores.
    """
    try:
        home.refuse_blocking()
    except NoActiveStep as e:
        raise _WouldBlock(
            "A synchronous method of the store was called on the event loop that would have to serve it, so both would "
            "wait for ever. Await the asynchronous one (aget, aput, asearch, …), or call from another thread."
        ) from e
