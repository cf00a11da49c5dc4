"""Which tasks an answer of a human can be for: those with an open question when the run was entered with it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["NO_QUESTIONS", "Questions"]


@dataclass(frozen=True, slots=True)
class Questions:
    """The open questions of the checkpoint that a graph was loaded at.

    Attributes:
        checkpoint_id: the checkpoint.
        paths: by id of the task that asked, its path.
        rest_on_facts: they, or others of the run, rest on reads: their own, or those of tasks that their graph runs in.
        renamed: LangGraph gives the tasks other ids than the questions were saved for.
        names: by id of the task that asked, the names of its questions.
        answers: by id of a task, how many answers it had taken.
        fork_id: the fork of the checkpoint that the run has begun with.
    """

    checkpoint_id: str = ""
    paths: dict[str, str] | None = None
    rest_on_facts: bool = False
    renamed: bool = False
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)
    fork_id: str | None = None

    def forked(self, checkpoint_id: str, parent_id: str | None) -> Questions:
        """The same after a fork. One that starts elsewhere has no questions in common with this checkpoint."""
        return replace(self, fork_id=checkpoint_id) if parent_id == self.checkpoint_id else self

    def may_be_answered_by(self, checkpoint_id: str, task_id: str, path: str) -> bool:
        """Whether an answer that the run was entered with can be for this task of this super-step.

        In a fork the task that asked is known by its path. What was read before it asked is not of the fork, so it
        cannot be validated there: an answer to a question that rests on facts does not count, and it is asked anew.
        """
        asked = self.paths or {}
        if task_id in asked:
            return True
        if self.renamed and checkpoint_id == self.checkpoint_id:
            return bool(asked)
        return checkpoint_id == self.fork_id and not self.rest_on_facts and path in asked.values()


NO_QUESTIONS = Questions()
