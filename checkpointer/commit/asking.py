"""The questions that a task has stopped at, as they are noted beside its interrupt.

They are noted in the transaction that stores the interrupt, under the fencing token of the run. So there is a question
exactly if LangGraph has its interrupt, and whoever answers from outside (`fleet.sending`, a child that ends, the time
that runs out) finds it without reading what only the graph's serializer can read.

A question of a subgraph comes up through the tasks around it, under one name. It is noted where it is asked.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.types import RESUME

from superstep.checkpointer.children.queries import Question
from superstep.checkpointer.children.spawned import OTHERWISE
from superstep.checkpointer.children.waiting import awaited
from superstep.checkpointer.langgraph.encryption import at as at_place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.types import Interrupt

    from superstep.checkpointer.children.waiting import Terms
    from superstep.checkpointer.threads.run import Run

__all__ = ["questions_of", "root_of"]


def questions_of(
    run: Run,
    serde: SerializerProtocol,
    at: tuple[str, str],
    task_id: str,
    asked: Iterable[Interrupt[Any]],
    writes: Iterable[tuple[str, Any]],
) -> list[Question]:
    """Those that this task has stopped at, as far as they are not of a subgraph that has noted them.

    Args:
        run: of the task.
        serde: the saver's.
        at: namespace and checkpoint of its super-step.
        task_id: of the task.
        asked: its interrupts, under the names that they are shown with.
        writes: what LangGraph saves for it.
    """
    if run.token is None or run.trial_of is not None:
        return []
    taken = max((len(value) for channel, value in writes if channel == RESUME and isinstance(value, list)), default=0)
    step = run.steps.get(at)
    task = step.tasks.get(task_id) if step is not None else None
    terms = task.attempt.terms if task is not None and task.attempt is not None else None
    own = [each for each in asked if each.id not in run.writes.asked]
    run.writes.asked.update(each.id for each in own)
    return [_question(serde, run.thread_id, task_id, taken, each, terms) for each in own]


def root_of(run: Run, at: tuple[str, str]) -> str:
    """The checkpoint that the super-step of the outermost graph started from."""
    ns, checkpoint_id = at
    return checkpoint_id if ns == "" else run.namespaces[ns].above.get("", "")


def _question(
    serde: SerializerProtocol, thread_id: str, task_id: str, nth: int, asked: Interrupt[Any], terms: Terms | None
) -> Question:
    if awaited(asked) is not None:
        return Question(asked.id, task_id, nth, child_id=asked.id)
    if terms is None:
        return Question(asked.id, task_id, nth)
    kind, stored = at_place(serde, OTHERWISE, thread_id, asked.id).dumps_typed(terms.otherwise)
    until = terms.expires
    if isinstance(until, datetime):
        return Question(asked.id, task_id, nth, at=until, kind=kind, otherwise=stored)
    return Question(asked.id, task_id, nth, seconds=until.total_seconds(), kind=kind, otherwise=stored)
