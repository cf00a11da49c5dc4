"""LangGraph's run control, made for one attempt of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langgraph.runtime import RunControl

from superstep.checkpointer.langgraph.keys import RUNTIME, RunOptions
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["AttemptControl", "run_options", "usable_effects"]


class AttemptControl(RunControl):
    """Carries what the caller of a run tells the saver to wherever LangGraph hands the run's control.

    The control identifies a run (`keys.run_key`). A caller that enters a thread again after a conflict makes a new one,
    so what is left over of the attempt before belongs to a run that is over. Draining is the caller's control's
    business: a request outlives the attempt in which it is made. `stopping` says whether somebody else wants the run
    to end likewise.
    """

    __slots__ = ("_callers", "_stopping", "options")

    def __init__(self, options: RunOptions, callers: RunControl, stopping: Callable[[], bool] = bool) -> None:
        super().__init__()
        self.options = options
        self._callers = callers
        self._stopping = stopping

    def request_drain(self, reason: str = "shutdown") -> None:
        """See LangGraph."""
        self._callers.request_drain(reason)

    @property
    def drain_requested(self) -> bool:
        """See LangGraph."""
        return self._callers.drain_requested or self._stopping()

    @property
    def drain_reason(self) -> str | None:
        """See LangGraph."""
        return self._callers.drain_reason


def run_options(conf: Mapping[str, Any]) -> RunOptions:
    """What the caller of a run has told, from the `configurable` of anything that belongs to it.

    Raises:
        ConfigError: `effects` in it is none of the choices.
    """
    control = getattr(conf.get(RUNTIME), "control", None)
    options = control.options if isinstance(control, AttemptControl) else RunOptions()
    return options if conf.get("effects") is None else replace(options, effects=usable_effects(conf["effects"]))


def usable_effects(choice: Any) -> str | None:
    """A choice about effects that would be repeated.

    Raises:
        ConfigError: it is none.
    """
    if choice not in (None, "again", "keep"):
        raise ConfigError(f'effects must be "again" or "keep", not {choice!r}.')
    return None if choice is None else str(choice)
