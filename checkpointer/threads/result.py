"""What LangGraph saves for one task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.checkpoint.serde.types import RESUME

from superstep.checkpointer.langgraph.keys import NULL_TASK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.children.queries import Question
    from superstep.checkpointer.langgraph.codec import WriteRows

__all__ = ["Result"]


@dataclass(slots=True)
class Result:
    """A task's writes, and what they rest on.

    Attributes:
        task_id: LangGraph's id of the task.
        rows: its pending writes.
        effect: kind and bytes of the effect they rest on, serialized; `None` if on nothing.
        finished: these are the task's output: whatever is stored for it from before goes.
        forget_memo: it ended in an error: answers of language models were part of the failure.
        took_answer: the task has taken the human's answer that names no question: it is there for no other.
        asks: the questions that it has stopped at.
        root: the checkpoint that the super-step of the outermost graph started from; said where there are questions.
    """

    task_id: str
    rows: WriteRows
    effect: tuple[str, bytes] | None
    finished: bool
    forget_memo: bool
    took_answer: bool = False
    asks: Sequence[Question] = ()
    root: str = ""

    @property
    def is_answer(self) -> bool:
        """Whether this is a human's answer to an interrupt, on its way to the task that asked."""
        return self.task_id == NULL_TASK and self.rows.idx == [WRITES_IDX_MAP[RESUME]]
