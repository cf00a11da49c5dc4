"""`--context` and `--config` of a run: read, and held against what the graph takes."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.run.inputs import check, read_json
from superstep.runtime.faults import InputInvalid

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

    from superstep.runtime.loading.factories import FactoryCall

__all__ = ["RunOptions", "fit_context", "read_options"]

# Keys of LangGraph's config that JSON has a form for, and what each must be.
KEYS: dict[str, tuple[type, ...]] = {
    "configurable": (dict,),
    "metadata": (dict,),
    "tags": (list,),
    "run_name": (str,),
    "recursion_limit": (int,),
    "max_concurrency": (int,),
}
OURS = {"thread_id": "--thread", "checkpoint_id": "--checkpoint", "checkpoint_ns": "--checkpoint"}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is called, beside its input.

    Attributes:
        context: what nodes find in `runtime.context`, as it was written.
        config: LangGraph's config, without the thread.
    """

    context: Any = None
    config: dict[str, Any] = field(default_factory=dict)

    def config_of(self, place: dict[str, Any]) -> dict[str, Any]:
        """Return the config of a run at a place, a thread or one of its checkpoints."""
        given = self.config.get("configurable", {})
        return {**self.config, **place, "configurable": {**given, **place["configurable"]}}

    def factory_call(self, thread: str) -> FactoryCall:
        """Return what a factory is told of the run."""
        from superstep.runtime.loading.factories import FactoryCall

        return FactoryCall(self.config_of({"configurable": {"thread_id": thread}}), self.context, runs=True)


def read_options(context: str | None, config: str | None) -> RunOptions:
    """Parse what was given.

    Args:
        context: JSON or `@FILE`, or `None`.
        config: likewise.

    Raises:
        InputInvalid: It is not JSON, or no config of LangGraph.
    """
    found = {} if config is None else read_json(config, "--config")
    if not isinstance(found, dict):
        raise InputInvalid('--config must be a JSON object, such as {"configurable": {"user": "Ada"}}.')
    for key, value in found.items():
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"It may have {', '.join(KEYS)}."
            raise InputInvalid(f"--config has an unknown key {key!r}. {hint}")
        if not isinstance(value, KEYS[key]) or isinstance(value, bool):
            kind = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}[KEYS[key][0]]
            raise InputInvalid(f"--config: {key} must be {kind}.")
    for key in found.get("configurable", {}):
        if key in OURS:
            raise InputInvalid(f"--config: {key} is given with {OURS[key]}.")
        if key.startswith("__"):
            raise InputInvalid(f"--config: {key} is LangGraph's own, and not to be given.")
    return RunOptions(None if context is None else read_json(context, "--context"), found)


def fit_context(how: RunOptions, graph: Pregel[Any, Any, Any, Any], name: str) -> None:
    """Hold the context against the graph's `context_schema`, before anything is written.

    Raises:
        InputInvalid: It does not fit; the message names the field.
    """
    schema = getattr(graph, "context_schema", None)
    if how.context is None or schema is None:
        return

    def validate() -> Any:
        from superstep.runtime.cli.run.schemas import typed

        return typed(schema, how.context)

    if isinstance(how.context, dict) and (fields := getattr(schema, "__annotations__", None)):
        for key in how.context:
            if key not in fields and not hasattr(schema, "model_validate"):
                raise InputInvalid(f"The context of {name} has an unknown field {key!r}. It has {', '.join(fields)}.")
    check(validate, f"The context of {name}", (), "context_schema")
