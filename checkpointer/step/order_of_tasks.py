"""The order of the tasks of a super-step, which has the effect of one after the other.

It is that of their paths. But what subgraphs commit is before all of the super-steps around them, so tasks whose
subgraphs commit writes lead: they come before the others.

Tasks that run side by side do not see each other. The commit tells which of them could not have run after those before
them; these run again, on top of what the others have staged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.step.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from superstep.checkpointer.step.read_set import Effect, Staged
    from superstep.checkpointer.step.task import Attempt, Task
    from superstep.checkpointer.step.tasks import Tasks

__all__ = ["OrderOfTasks"]


class OrderOfTasks:
    """Of these tasks, by id, some of which lead. Both may change."""

    def __init__(self, tasks: Tasks, leading: Collection[str]) -> None:
        self._tasks = tasks
        self._leading = leading

    def effects(self) -> list[Effect]:
        """What the tasks' results rest on, in order."""
        return sorted(self._tasks.effects, key=self._place)

    def view_of(self, task: Task) -> Sequence[Staged]:
        """The staged writes of tasks before this one that its reads marked `after` were made on top of."""
        if task.attempt is not None and task.attempt.view is not None:
            return task.attempt.view
        saved = task.effect or task.shown or task.built_on
        return self._writes_before(saved, self._tasks) if saved is not None else ()

    def saved_writes_before(self, attempt: Attempt) -> tuple[Staged, ...]:
        """What an execution reads on top of: writes of tasks before it, whose results an earlier attempt has saved."""
        return self._writes_before(attempt, [t.id for t in self._tasks.values() if t.state is TaskState.HYPOTHESIS])

    def _writes_before(self, of: Effect | Attempt, tasks: Collection[str]) -> tuple[Staged, ...]:
        place = self._place(of)
        before = [effect for effect in self.effects() if effect.task_id in tasks and self._place(effect) < place]
        return tuple(staged for effect in before for staged in effect.staged)

    def _place(self, of: Effect | Attempt) -> tuple[bool, str, str]:
        return of.task_id not in self._leading, of.path, of.task_id
