"""Prompts for graph authors: versions read as facts of the super-step that uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from superstep.checkpointer import current_step
from superstep.prompts import PRODUCTION, in_step, load_prompt, not_found
from superstep.runtime.faults import PromptNotFound, ReadFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer import Step
    from superstep.prompts import Prompt

__all__ = ["prompt", "prompt_sync"]

# SQLSTATE of a table or a schema that is not there.
_NO_TABLES = frozenset({"42P01", "3F000"})


async def prompt(name: str, *, label: str = PRODUCTION, version: int | None = None) -> Prompt:
    """The version of a prompt that a label points at, in the snapshot of the running super-step.

    All tasks of a super-step see the same version. Which one it is counts as a fact that the calling task read: if the
    label is moved before the super-step could commit, the task runs again with the version it points at then. The
    record of the super-step names the version.

    If `label` is `production` and the prompt has the label `canary` with a share, threads within that share get the
    canary. It is always the same threads, and more of them as the share grows.

    Args:
        name: of the prompt.
        label: which version.
        version: a version's number, instead of a label.

    Returns:
        The prompt, a LangChain runnable: `await (await prompt("verify")).ainvoke({...})`, or `prompt | model`.

    Raises:
        PromptNotFound: There is no such prompt, label or version. The message says what to run.
        NoActiveStep: Not called inside a node that runs with a `TransactionalSaver`.
        StepConflict: What the task read before has changed. Do not catch it: it makes the task run again.
    """
    step = current_step()
    wanted = _Wanted(step, name, label, version)
    try:
        rows = await step.fetch(*wanted.statement)
        return wanted.found(rows) if rows else wanted.refuse(await step.fetch(*wanted.what_there_is))
    except ReadFailed as error:
        raise wanted.unreadable(error) from error


def prompt_sync(name: str, *, label: str = PRODUCTION, version: int | None = None) -> Prompt:
    """See `prompt`. For synchronous nodes: it blocks the calling thread."""
    step = current_step()
    wanted = _Wanted(step, name, label, version)
    try:
        rows = step.sync.fetch(*wanted.statement)
        return wanted.found(rows) if rows else wanted.refuse(step.sync.fetch(*wanted.what_there_is))
    except ReadFailed as error:
        raise wanted.unreadable(error) from error


class _Wanted:
    """One prompt that a task wants: the statements to read, and what to make of their rows."""

    def __init__(self, step: Step, name: str, label: str, version: int | None) -> None:
        self._step = step
        self._name = name
        self._label = label
        self._version = version

    @property
    def statement(self) -> tuple[Any, ...]:
        """Statement and arguments that find the one row."""
        if self._version is not None:
            return in_step.by_version(self._step.schema, self._name, self._version)
        return in_step.by_label(self._step.schema, self._name, self._label, self._step.thread_id)

    @property
    def what_there_is(self) -> tuple[Any, ...]:
        """Statement and argument that find what to say if there is no such row."""
        return in_step.known(self._step.schema, self._name)

    def found(self, rows: Sequence[Any]) -> Prompt:
        """The prompt of the row, noted as used by the task."""
        found = load_prompt(self._name, rows[0]["version"], rows[0]["digest"], rows[0]["content"])
        self._step.uses(found.title)
        return found

    def refuse(self, known: Sequence[Any]) -> NoReturn:
        """Raise the error about what is not there."""
        raise not_found(self._name, version=self._version, label=self._label, **dict(known[0]))

    def unreadable(self, error: ReadFailed) -> Exception:
        """What a failed read means: without the tables there are no prompts."""
        if error.sqlstate not in _NO_TABLES:
            return error
        return PromptNotFound(
            f"There is no prompt {self._name!r}: this database has no tables for prompts yet. Create them with "
            f"`runtime db migrate`, and bring the files of prompts/ in with `runtime prompts add`."
        )
