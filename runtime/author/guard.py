"""`guard(node, on="plan")`: a node that is run only while the facts that a plan was made on still hold."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Literal, Union

from langchain_core.runnables import Runnable
from langgraph.types import Command

from superstep.checkpointer import declare_guarded, go_only_to, guarded_facts_stand, guarded_facts_stand_sync
from superstep.runtime.faults import ConfigError, PlanInvalidated, ProvenanceMissing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.runnables import RunnableConfig

__all__ = ["guard"]


def guard(
    node: Any, *, on: str | Sequence[str], otherwise: str | None = None, unknown: Literal["raise", "run"] = "raise"
) -> Any:
    """Run a node only while the facts hold that values of the state were made on.

    Before the node runs, what the tasks had read that wrote these values is read again, in the snapshot of the node's
    own super-step: in one statement, if nothing has moved. Then these reads are facts of the node too, so its
    super-step commits only if they hold at that moment as well. If something has moved, the node does not run.

    What the guarded node's flow has written itself in between counts as moved, except for what a commit of the run had
    validated before it wrote. What the values' authors have read in subgraphs, tools and `@task`s counts. What earlier
    nodes handed to the author counts only if it is named in `on` too.

    Args:
        node: what `add_node` takes: a function, a coroutine function, a Runnable, a compiled graph.
        on: names of state keys. Of one that a reducer accumulates, all that was written to it counts.
        otherwise: the node to go back to, and to no other: edges that lead away from the guarded node are not
            followed then. (LangGraph still asks the path function of a conditional edge, and its answer is ignored.)
            `None`: raise.
        unknown: what to do if it is not known what a value rests on: `"raise"` `ProvenanceMissing`, or `"run"` the
            node without a guard. The latter is for a guard that is put into a flow with unfinished threads, whose plans
            were made before it was there. A thread that goes on so is as safe as without the guard, and no safer.

    Returns:
        A node, to be used in its place.

    Raises:
        ConfigError: `on` names nothing, or `unknown` is neither.

    The node raises `PlanInvalidated` without `otherwise`, and, unless `unknown` is `"run"`, `ProvenanceMissing` if it
    is not known what a value rests on: it was given as input, or its author ran where this guard was not loaded.
    """
    channels = (on,) if isinstance(on, str) else tuple(on)
    if not channels:
        raise ConfigError("guard(..., on=...) needs the name of a state key, or several.")
    if unknown not in ("raise", "run"):
        raise ConfigError(f"guard(..., unknown={unknown!r}) is neither 'raise' nor 'run'.")
    declare_guarded(channels)
    guarded = _Guarded(channels, otherwise, _name(node), runs_unknown=unknown == "run")
    if isinstance(node, Runnable):
        return _GuardedRunnable(node, guarded)
    if not callable(node):
        raise ConfigError(f"guard() takes a function, a Runnable or a compiled graph, not {type(node).__name__}.")
    return _annotated(guarded.around_function(node), otherwise)


class _Guarded:
    """What is guarded, and what happens if it has moved."""

    def __init__(self, channels: tuple[str, ...], otherwise: str | None, name: str, *, runs_unknown: bool) -> None:
        self.channels = channels
        self.otherwise = otherwise
        self.name = name
        self.runs_unknown = runs_unknown

    async def stands(self) -> bool:
        try:
            return await guarded_facts_stand(self.channels)
        except ProvenanceMissing:
            if self.runs_unknown:
                return True
            raise

    def stands_sync(self) -> bool:
        try:
            return guarded_facts_stand_sync(self.channels)
        except ProvenanceMissing:
            if self.runs_unknown:
                return True
            raise

    def around_function(self, node: Any) -> Any:
        if inspect.iscoroutinefunction(node) or inspect.iscoroutinefunction(getattr(node, "__call__", None)):  # noqa: B004

            @functools.wraps(node)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                if await self.stands():
                    return await node(*args, **kwargs)
                return self.go_back()

            return guarded

        @functools.wraps(node)
        def guarded_sync(*args: Any, **kwargs: Any) -> Any:
            if self.stands_sync():
                return node(*args, **kwargs)
            return self.go_back()

        return guarded_sync

    def go_back(self) -> Command[Any]:
        if self.otherwise is None:
            raise PlanInvalidated(
                f"The facts that {', '.join(map(repr, self.channels))} rests on have changed, so {self.name!r} did "
                f"not run. Nothing of this super-step was written. Have the plan made anew, or give the guard the node "
                f"to go back to: guard(..., otherwise=...).",
                tasks=[self.name],
            )
        go_only_to(self.otherwise)
        return Command(goto=self.otherwise)


class _GuardedRunnable(Runnable[Any, Any]):
    """A guarded Runnable, itself one: LangGraph calls it with the very config that the writers for the edges have."""

    def __init__(self, node: Runnable[Any, Any], guarded: _Guarded) -> None:
        self._node = node
        self._guarded = guarded
        self.name = guarded.name

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        if await self._guarded.stands():
            return await self._node.ainvoke(input, config, **kwargs)
        return self._guarded.go_back()

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        if self._guarded.stands_sync():
            return self._node.invoke(input, config, **kwargs)
        return self._guarded.go_back()


def _name(node: Any) -> str:
    return str(getattr(node, "__name__", None) or getattr(node, "name", None) or type(node).__name__)


def _annotated(function: Any, otherwise: str | None) -> Any:
    """The function, with the way back in its annotations: there LangGraph finds where a node may lead, to draw it."""
    if otherwise is not None:
        way_back: Any = Command[Literal[otherwise]]  # type: ignore[valid-type]  # known at run time only
        returns = function.__annotations__.get("return")
        returns = way_back if returns is None else Union[returns, way_back]  # noqa: UP007 - it may be a text
        function.__annotations__ = {**function.__annotations__, "return": returns}
    return function
