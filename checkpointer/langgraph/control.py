"""LangGraph's run control, made for one attempt of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.runtime import RunControl

from superstep.checkpointer.langgraph.keys import RUNTIME, RunOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AttemptControl", "run_options"]


class AttemptControl(RunControl):
    """Carries what the caller of a run tells the saver to wherever LangGraph hands the run's control.

    The control identifies a run (`keys.run_key`). A caller that enters a thread again after a conflict makes a new one,
    so what is left over of the attempt before belongs to a run that is over. Draining is the caller's control's
    business: a request outlives the attempt in which it is made.
    """

    __slots__ = ("_callers", "options")

    def __init__(self, options: RunOptions, callers: RunControl) -> None:
        super().__init__()
        self.options = options
        self._callers = callers

    def request_drain(self, reason: str = "shutdown") -> None:
        """See LangGraph."""
        self._callers.request_drain(reason)

    @property
    def drain_requested(self) -> bool:
        """See LangGraph."""
        return self._callers.drain_requested

    @property
    def drain_reason(self) -> str | None:
        """See LangGraph."""
        return self._callers.drain_reason


def run_options(conf: Mapping[str, Any]) -> RunOptions:
    """What the caller of a run has told, from the `configurable` of anything that belongs to it."""
    control = getattr(conf.get(RUNTIME), "control", None)
    return control.options if isinstance(control, AttemptControl) else RunOptions()
