"""Which tasks an answer of a human can be for: those that had an open question when the run was entered with it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["NO_QUESTIONS", "Questions"]


@dataclass(frozen=True, slots=True)
class Questions:
    """The open questions of the checkpoint that a graph was loaded at.

    Attributes:
        checkpoint_id: the checkpoint.
        paths: by id of the task that asked, its path.
        factless: ids of those whose question rests on no read.
        renamed: LangGraph gives the tasks other ids than the questions were saved for.
        fork_id: the fork of the checkpoint that the run has begun with.
    """

    checkpoint_id: str = ""
    paths: dict[str, str] | None = None
    factless: frozenset[str] = frozenset()
    renamed: bool = False
    fork_id: str | None = None

    def forked(self, checkpoint_id: str, parent_id: str | None) -> Questions:
        """The same after a fork. One that starts elsewhere has no questions in common with this checkpoint."""
        return replace(self, fork_id=checkpoint_id) if parent_id == self.checkpoint_id else self

    def may_be_answered_by(self, checkpoint_id: str, task_id: str, path: str) -> bool:
        """Whether an answer that the run was entered with can be for this task of this super-step.

        In a fork the task that asked is known by its path. What it read before it asked is not of the fork, so it cannot
        be validated there: an answer to a question that rests on facts does not count, and the question is asked anew.
        """
        asked = self.paths or {}
        if task_id in asked:
            return True
        if self.renamed and checkpoint_id == self.checkpoint_id:
            return bool(asked)
        return checkpoint_id == self.fork_id and path in {asked[each] for each in self.factless}


NO_QUESTIONS = Questions()
