"""Factories of graphs, called as LangGraph's server calls them.

A factory takes nothing, a config, a runtime, or both, in any order: which parameter is which is told by its annotation,
else by its name, and a lone parameter without either is the config. It returns a graph, an awaitable of one, or a
context manager, synchronous or not, that stays open for as long as the graph is used.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Union, get_args, get_origin, get_type_hints

from langgraph.runtime import Runtime

from superstep.runtime.faults import GraphInvalid

__all__ = ["FactoryCall", "FactoryRuntime", "call_factory"]


@dataclass(frozen=True, slots=True)
class FactoryRuntime:
    """What a factory gets for a `ServerRuntime`: the same members as of LangGraph's own.

    Attributes:
        access_context: why it is called.
        context: of a run, what was given as its context.
        user: nobody has logged in to a command line.
        store: none is open yet.
    """

    access_context: str
    context: Any = None
    user: None = None
    store: None = None

    @property
    def execution_runtime(self) -> FactoryRuntime | None:
        """This runtime, if the graph is made to run; `None` if it is only looked at."""
        return self if self.access_context == "threads.create_run" else None

    def ensure_user(self) -> Any:
        """Refuse: there is no user.

        Raises:
            PermissionError: Always.
        """
        raise PermissionError("No authenticated user: the graph was loaded by the command line.")


@dataclass(frozen=True, slots=True)
class FactoryCall:
    """What a graph is made for.

    Attributes:
        config: LangGraph's config of the run.
        context: context of the run.
        runs: whether it is made to run, or only to be looked at.
    """

    config: dict[str, Any] = field(default_factory=lambda: {"configurable": {}})
    context: Any = None
    runs: bool = False


async def call_factory(factory: Any, call: FactoryCall, place: str) -> tuple[Any, AsyncExitStack]:
    """Call a factory.

    Args:
        factory: The callable.
        call: What for.
        place: Where it is, for messages.

    Returns:
        What it made, and what must be closed when that is no longer used.

    Raises:
        GraphInvalid: It wants other arguments, or it failed.
    """
    arguments = _arguments(factory, call, place)
    resources = AsyncExitStack()
    try:
        made = factory(*arguments.args, **arguments.kwargs)
        if inspect.isawaitable(made):
            made = await made
        if hasattr(made, "__aenter__") and hasattr(made, "__aexit__"):
            made = await resources.enter_async_context(made)
        elif hasattr(made, "__enter__") and hasattr(made, "__exit__"):
            made = resources.enter_context(made)
    except Exception as error:
        raise GraphInvalid(f"The factory {place} failed: {type(error).__name__}: {error}") from error
    return made, resources


def _arguments(factory: Any, call: FactoryCall, place: str) -> inspect.BoundArguments:
    """Give each parameter what its annotation or its name asks for."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError) as error:
        raise GraphInvalid(f"{place} is a {type(factory).__name__}, not a graph.") from error
    hints = _hints(factory)
    named = {name: p for name, p in signature.parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    kinds = {name: _kind(name, hints.get(name)) for name in named}
    required = [name for name, p in named.items() if p.default is p.empty]
    if (unclear := [name for name in required if kinds[name] is None]) and "config" not in kinds.values():
        kinds[unclear.pop(0)] = "config"
    if unclear or any(list(kinds.values()).count(kind) > 1 for kind in ("config", "runtime")):
        raise GraphInvalid(f"The factory {place} needs arguments. It may take none, a config, a runtime, or both.")
    bound = signature.bind_partial()
    for name, kind in kinds.items():
        if kind:
            bound.arguments[name] = call.config if kind == "config" else _runtime(hints.get(name), call)
    return bound


def _kind(name: str, hint: Any) -> str | None:
    words = str(hint) if hint is not None else ""
    if "Runtime" in words and "RuntimeConfig" not in words:
        return "runtime"
    if "RunnableConfig" in words:
        return "config"
    return name if name in ("config", "runtime") else None


def _runtime(hint: Any, call: FactoryCall) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next((part for part in get_args(hint) if "Runtime" in str(part)), hint)
    if getattr(hint, "__origin__", hint) is Runtime:
        return Runtime(context=_typed_context(hint, call.context))
    context = _typed_context(hint, call.context) if call.runs else None
    return FactoryRuntime("threads.create_run" if call.runs else "assistants.read", context)


def _typed_context(hint: Any, context: Any) -> Any:
    """Make the context what `Runtime[Context]` says, as LangGraph does for nodes."""
    kind = next(iter(get_args(hint)), None)
    if not isinstance(context, dict) or not isinstance(kind, type):
        return context
    if hasattr(kind, "model_validate"):
        return kind.model_validate(context)
    return kind(**context) if dataclasses.is_dataclass(kind) else context


def _hints(factory: Any) -> dict[str, Any]:
    """Return the annotations; as texts where they name what only type checkers import."""
    called = factory if inspect.isroutine(factory) else getattr(factory, "__call__", factory)  # noqa: B004
    try:
        return get_type_hints(called)
    except Exception:  # noqa: BLE001 - whatever an annotation raises: its text has to do
        return dict(getattr(called, "__annotations__", {}))
