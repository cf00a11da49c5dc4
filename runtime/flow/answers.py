"""Answers that name the question they are for: `Command(resume={name: answer})`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langgraph.types import Command

from superstep.checkpointer import awaited_child, names_questions, unmasked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langgraph.types import Interrupt

__all__ = ["for_open_questions", "for_people", "names_any"]


def names_any(given: Any) -> bool:
    """Whether an input has answers that name their questions."""
    return isinstance(given, Command) and bool(given.resume) and names_questions(given.resume)


def for_people(given: Command[Any], open_now: Iterable[Interrupt]) -> Command[Any] | None:
    """The input without its answer, which names no question, if the thread waits for nothing but child runs."""
    asked = list(open_now)
    if not asked or any(awaited_child(each) is None for each in asked):
        return given
    return replace(given, resume=None) if given.update is not None or given.goto else None


def for_open_questions(given: Command[Any], open_now: Iterable[Interrupt], withdrawn: int) -> Command[Any] | None:
    """The input with the answers whose questions are open, under the names that LangGraph has for these.

    An answer to a question that was withdrawn since counts for none, least of all for the same question on other facts.

    Args:
        given: see `names_any`.
        open_now: the open questions of the thread.
        withdrawn: no question of the thread was withdrawn more often.

    Returns:
        `None` if nothing is left of it.
    """
    names = {question.id for question in open_now}
    left = {
        known: answer
        for name, answer in given.resume.items()  # type: ignore[union-attr]
        if name in names
        for known in unmasked(name, withdrawn)
    }
    if left:
        return replace(given, resume=left)
    return replace(given, resume=None) if given.update is not None or given.goto else None
