"""Exit codes by error class, and the words that explain a failure.

Decided by class alone, never by message text.
"""

from __future__ import annotations

import signal
import traceback
from typing import Any

from superstep.runtime import faults
from superstep.runtime.settings.settings import without_password
from superstep.runtime.settings.shown import shell_word

__all__ = ["COMPLETED", "INTERRUPTED", "USAGE", "Stopped", "error_object", "exit_code", "explained"]

COMPLETED = 0
UNEXPECTED = 1
USAGE = 2
INTERRUPTED = 10

# Ordered: the first class that matches decides, so a subclass stands before its base.
CODES: tuple[tuple[type[BaseException], int], ...] = (
    (faults.DatabaseUnavailable, 4),
    (faults.StepConflict, 5),
    (faults.PlanInvalidated, 5),
    (faults.PromptConflict, 5),
    (faults.MemoryContended, 5),
    (faults.ProviderUnavailable, 6),
    (faults.ProviderExhausted, 6),
    (faults.BudgetExceeded, 6),
    (faults.StaleRun, 7),
    (faults.ThreadBusy, 7),
    (faults.RollbackRefused, 7),
    (faults.GraphChanged, 3),
    (faults.ConfigError, 3),
    (faults.GraphNotFound, 3),
    (faults.GraphInvalid, 3),
    (faults.InputInvalid, 3),
    (faults.ThreadNotFound, 3),
    (faults.ThreadMismatch, 3),
    (faults.ThreadFinished, 3),
    (faults.PromptNotFound, 3),
    (faults.PromptInvalid, 3),
    (faults.ProvenanceMissing, 3),
    (faults.MemoryInvalid, 3),
    (faults.AggregateNotFound, 3),
    (faults.AggregateOutdated, 3),
    (faults.EventSourceFailed, 3),
    (faults.CollectionNotFound, 3),
    (faults.CollectionMismatch, 3),
    (faults.VectorInvalid, 3),
    (faults.DocumentInvalid, 3),
    (faults.ValueNotAuthentic, 3),
    (faults.ValueIncomplete, 3),
    (faults.UpdateInvalid, 3),
    (faults.WriteRefused, 3),
    (faults.SharedOutdated, 3),
    (faults.EffectNotFound, 3),
    (faults.EffectRepeated, 3),
    (faults.AnswerRefused, 3),
)

RESUME = "Nothing committed is lost. Continue with: runtime resume {thread}"
ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (faults.SchemaMissing, "Create or update the runtime's tables with: runtime db migrate"),
    (faults.ExtensionMissing, "When it is there: runtime resume {thread}"),
    (faults.DatabaseUnavailable, "When the database is back: runtime resume {thread}"),
    (faults.StepConflict, "Other writers keep changing what this step reads. " + RESUME),
    (faults.PlanInvalidated, "See what was decided with: runtime history {thread}"),
    (faults.ProvenanceMissing, "Start the planning step anew, for example: runtime resume {thread} --checkpoint ID"),
    (faults.StaleRun, "A later run owns the thread. See where it is with: runtime show {thread}"),
    (faults.ThreadBusy, "Wait for it to end, or repeat the command with --take-over: what it has committed stays."),
    (faults.GraphChanged, "Then: runtime resume {thread}"),
    (faults.RollbackRefused, "See what was committed with: runtime history {thread}"),
    (faults.ThreadFinished, "Start another turn with: runtime run GRAPH --thread {thread} --input JSON"),
    (faults.ProviderRejected, "Correct the request or the key, then: runtime resume {thread}"),
    (faults.ProviderExhausted, "See what is wrong with: runtime models --check. Then: runtime resume {thread}"),
    (faults.ProviderUnavailable, "Correct the cause, then: runtime resume {thread}"),
    (faults.BudgetExceeded, "Raise the budget in runtime.toml, then: runtime resume {thread}"),
    (faults.PromptNotFound, "When it is there: runtime resume {thread}"),
    (faults.PromptInvalid, "Correct the prompt or what is given to it, then: runtime resume {thread}"),
    (faults.StagedWriteFailed, "Correct the cause, then: runtime resume {thread}"),
    (
        faults.EffectRepeated,
        'Choose, then: runtime resume {thread} --config \'{{"configurable": {{"effects": "keep"}}}}\'  (or "again")',
    ),
    (faults.SharedUnknown, "When it is declared: runtime resume {thread}"),
    (faults.SharedOutdated, "When the declaration fits: runtime resume {thread}"),
)


class Stopped(Exception):
    """The command was asked to stop by a signal.

    Attributes:
        number: of the signal; the exit code is 128 more.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"Stopped by {signal.Signals(number).name}.")
        self.number = number


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error: the documented one of its class, 128 + n for a signal, else 1."""
    if isinstance(error, Stopped):
        return 128 + error.number
    return next((code for kind, code in CODES if isinstance(error, kind)), UNEXPECTED)


def advice(error: BaseException, thread: str | None) -> str | None:
    """Return what to do about an error, or `None` if its message has to do."""
    for kind, text in ADVICE:
        if isinstance(error, kind):
            return text.format(thread=shell_word(thread or "")) if thread or "{thread}" not in text else None
    if isinstance(error, faults.RuntimeFault) or not thread:
        return None
    if isinstance(error, Stopped):
        return RESUME.format(thread=shell_word(thread))
    return f"Correct the cause, then: runtime resume {shell_word(thread)}"


def error_object(error: BaseException, thread: str | None = None) -> dict[str, Any]:
    """Return the `error` of `runtime run --json`: type, message and, where there is one, what to do."""
    what = {"type": type(error).__name__, "message": without_password(str(error)) or type(error).__name__}
    todo = advice(error, thread)
    return {**what, "what_to_do": todo} if todo else what


def explained(error: BaseException, *, thread: str | None = None, debug: bool = False) -> str:
    """Return one block for people: what happened, to what, and what to do. It has no password in it.

    Args:
        error: What ended the command.
        thread: The thread that was being run, if any.
        debug: With the traceback.
    """
    lines = []
    if debug:
        lines.append("".join(traceback.format_exception(error)).rstrip())
    described = error_object(error, thread)
    lines.append(described["message"] if isinstance(error, Stopped) else f"{described['type']}: {described['message']}")
    node = _node_line(error)
    if node:
        lines.append(f"  at {node}")
    lines.extend(f"  {note}" for note in getattr(error, "__notes__", ()))
    if "what_to_do" in described:
        lines.append(f"  {described['what_to_do']}")
    if not debug and not isinstance(error, faults.RuntimeFault | Stopped):
        lines.append("  The traceback is shown with --debug.")
    return without_password("\n".join(lines))


def _node_line(error: BaseException) -> str | None:
    """Return the line of user code an unexpected error came from."""
    if isinstance(error, faults.RuntimeFault | Stopped):
        return None
    from superstep.runtime.loading.modules import last_own_frame

    frame = last_own_frame(error)
    return f"{frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}" if frame else None
