"""The tasks of one super-step, and what is asked of all of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from superstep.checkpointer.step.drift import never_arrived
from superstep.checkpointer.step.task import Task, TaskState

if TYPE_CHECKING:
    from superstep.checkpointer.step.read_set import Effect

__all__ = ["Tasks"]

_HAND_IN = 30.0  # seconds that a task's result may come later than the end of its super-step


class Tasks(dict[str, Task]):
    """By id: all that read, staged, asked a model, or were loaded with results. Lives on the saver's event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._handed_in = asyncio.Event()

    def of(self, task_id: str) -> Task:
        """The task of this id, known or new."""
        task = self.get(task_id)
        if task is None:
            task = self[task_id] = Task(task_id)
        return task

    # -- being handed in ---------------------------------------------------------------------------------------------

    def note_handed_in(self) -> None:
        """One of them has finished, failed, asked or drifted: whoever waits for all looks again."""
        self._handed_in.set()

    async def all_handed_in(self, thread_id: str) -> None:
        """Wait until every task that used its step has been handed in: finished, failed, or asking.

        Raises:
            StaleRun: LangGraph never did, so committing would drop what the task staged.
        """
        deadline = time.monotonic() + _HAND_IN
        while awaited := [task.id for task in self.values() if task.awaited]:
            self._handed_in.clear()
            try:
                await asyncio.wait_for(self._handed_in.wait(), deadline - time.monotonic())
            except TimeoutError as e:
                raise never_arrived(sorted(awaited), thread_id) from e

    @property
    def are_stuck(self) -> bool:
        """Whether none runs any more, and the super-step cannot commit in this run: one has failed, or asks."""
        states = {task.state for task in self.values()}
        return TaskState.RUNNING not in states and bool(states & {TaskState.ASKED, TaskState.FAILED})

    # -- what they rest on -------------------------------------------------------------------------------------------

    @property
    def effects(self) -> list[Effect]:
        """What their results rest on, in no order."""
        return [task.effect for task in self.values() if task.effect is not None and not task.effect.empty]

    @property
    def drifted(self) -> dict[str, str]:
        """Those (id to node) whose facts have changed."""
        return {task.id: task.node for task in self.values() if task.state is TaskState.DRIFTED}

    @property
    def have_writes(self) -> bool:
        """Whether a commit has staged writes to apply."""
        return any(task.effect is not None and task.effect.staged for task in self.values())

    @property
    def have_reads(self) -> bool:
        """Whether a new transaction would have anything of theirs to replay."""
        return any(reads for task in self.values() for reads in task.logs())

    @property
    def are_in_use(self) -> bool:
        """Whether an execution of one of them has asked for its step."""
        return any(task.attempt is not None and task.attempt.marked for task in self.values())

    @property
    def node_names(self) -> set[str]:
        """Names of those that are known to have taken part."""
        return {task.node for task in self.values() if task.took_part}
