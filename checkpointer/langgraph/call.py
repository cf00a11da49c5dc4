"""What LangGraph makes of a call of a graph: as whose task it runs, on which thread, with which checkpointer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import var_child_runnable_config

from superstep.checkpointer.langgraph.keys import CHECKPOINT_MAP, CHECKPOINTER, TASK_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.runnables import RunnableConfig

__all__ = ["GraphCall", "graph_call"]

_COORDINATES = ("thread_id", "checkpoint_ns", "checkpoint_id", CHECKPOINT_MAP)


@dataclass(frozen=True, slots=True)
class GraphCall:
    """One call of a graph.

    Attributes:
        conf: `configurable` as the run will see it.
        is_nested: a task of another graph makes the call, so this is a subgraph of the run that the task belongs to.
        checkpointer: what the run saves with: the parent's where there is one, else the graph's own.
    """

    conf: Mapping[str, Any]
    is_nested: bool
    checkpointer: object

    @property
    def to_latest(self) -> dict[str, Any]:
        """What to change in `conf`, if anything, so that it addresses the thread's latest checkpoint."""
        nothing: dict[str, Any] = {"checkpoint_id": None, CHECKPOINT_MAP: {}}
        return {key: none for key, none in nothing.items() if self.conf.get(key)}


def graph_call(own: RunnableConfig | None, given: RunnableConfig | None, checkpointer: object) -> GraphCall:
    """A call with the config `given` of a graph whose own config and checkpointer are these.

    Code that runs in a task inherits the task's config, and with it the task's place, unless it names a place of its
    own: a call with a thread id is a run of its own.
    """
    configs = [(config or {}).get("configurable") or {} for config in (own, given)]
    inherited = (var_child_runnable_config.get() or {}).get("configurable") or {}
    if any(_is_given(conf.get(key)) for conf in configs for key in _COORDINATES):
        inherited = {}
    conf: dict[str, Any] = {**inherited, **configs[0], **configs[1]}
    its = False if checkpointer is False else conf.get(CHECKPOINTER, checkpointer)
    return GraphCall(conf, TASK_ID in conf, its)


def _is_given(value: Any) -> bool:
    return bool(value) if isinstance(value, list | tuple | dict) else value is not None
