"""GRAPH of the command line, found and made ready to run.

`GRAPH` is a name in `langgraph.json`, `package.module`, or `package.module:attribute`. The attribute is a `StateGraph`,
a compiled graph (the functional API's `@entrypoint` makes one too), or a factory of one, synchronous or not. The
graph gets the runtime's saver; a graph that was compiled with another checkpointer is refused, because its steps
would be saved elsewhere.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from superstep.runtime.faults import GraphInvalid, GraphNotFound
from superstep.runtime.loading.modules import closest, import_file, import_named, short_name
from superstep.runtime.loading.project import Project, read_project

if TYPE_CHECKING:
    from pathlib import Path

    from langgraph.checkpoint.base import BaseCheckpointSaver

__all__ = ["LoadedGraph", "load_graph"]

Graph: TypeAlias = "StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any]"
USUAL_NAMES = ("graph", "builder", "flow", "app")


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph and the module it is from.

    Attributes:
        name: what a thread remembers and `runtime resume` loads again: the shortest form that finds the graph.
        graph: the `StateGraph` or the compiled graph, as its author left it.
        module: the module, for its optional hooks `setup`, `lifespan` and `example_input`.
    """

    name: str
    graph: Graph
    module: ModuleType

    def hook(self, name: str) -> Any:
        """Return an optional attribute of the graph's module, or `None`."""
        return getattr(self.module, name, None)

    def compile(self, saver: BaseCheckpointSaver[Any] | None = None) -> Pregel[Any, Any, Any, Any]:
        """Compile the graph on a saver, or attach the saver to a copy of a compiled graph.

        Args:
            saver: The saver; its `store`, if it has one, becomes the graph's. `None` only to draw or inspect.

        Returns:
            A compiled graph; the author's object is not changed.

        Raises:
            GraphInvalid: The graph does not compile, or was compiled with another checkpointer.
        """
        store = getattr(saver, "store", None)
        if isinstance(self.graph, StateGraph):
            try:
                return self.graph.compile(checkpointer=saver, store=store)
            except Exception as error:
                raise GraphInvalid(f"The graph {self.name} does not compile: {error}") from error
        if self.graph.checkpointer not in (None, True):
            raise GraphInvalid(
                f"The graph {self.name} was compiled with its own checkpointer "
                f"({type(self.graph.checkpointer).__name__}). Compile it without one: the runtime brings its own."
            )
        # Not `Pregel.copy`: that rebuilds the object from its constructor and loses what `compile` set afterwards.
        attached = copy.copy(self.graph)
        attached.checkpointer = saver
        attached.store = attached.store or store
        return attached


async def load_graph(spec: str, *, folder: Path | None = None) -> LoadedGraph:
    """Find a graph by its name.

    Args:
        spec: A name in `langgraph.json`, `package.module`, or `package.module:attribute`.
        folder: The project folder, by default the current one. It goes on the import path.

    Returns:
        The graph, not yet compiled on a saver.

    Raises:
        GraphNotFound: No such entry, module or attribute; the message suggests names that are close.
        GraphInvalid: The module fails to import, or the attribute is no graph.
        ConfigError: `langgraph.json` is broken.
    """
    project = read_project(folder)
    project.activate()
    if spec in project.graphs:
        module, attribute = _import_entry(project, spec)
        return LoadedGraph(spec, await _as_graph(getattr(module, attribute, None), module, attribute), module)
    name, _, attribute = spec.partition(":")
    if not name or name.endswith(".py") or "/" in name:
        raise GraphNotFound(
            f"{spec!r} is no graph name. Write package.module or package.module:attribute, or give the file a name "
            "in langgraph.json."
        )
    module = import_named(name, known=tuple(project.graphs))
    usual = _usual_attribute(module)
    if not attribute and usual is None:
        raise GraphInvalid(
            f"The module {name} has no attribute {', '.join(USUAL_NAMES)}, and {_listing(module)}. "
            f"Name the one to run: {name}:ATTRIBUTE."
        )
    found = await _as_graph(getattr(module, attribute or str(usual), None), module, attribute or str(usual))
    short = short_name(name)
    return LoadedGraph(short if attribute in ("", usual) else f"{short}:{attribute}", found, module)


def _import_entry(project: Project, spec: str) -> tuple[ModuleType, str]:
    target, _, attribute = project.graphs[spec].rpartition(":")
    if target.endswith(".py"):
        return import_file(project.folder / target, project.folder, entry=spec), attribute
    return import_named(target, known=()), attribute


def _graphs_of(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, StateGraph | Pregel)]


def _usual_attribute(module: ModuleType) -> str | None:
    """Return the attribute that the bare module name stands for."""
    for name in USUAL_NAMES:
        value = getattr(module, name, None)
        # A package's `graph` may be its submodule of that name; that is not what was meant.
        if value is not None and not isinstance(value, ModuleType):
            return name
    names = _graphs_of(module)
    return names[0] if len(names) == 1 else None


def _listing(module: ModuleType) -> str:
    names = _graphs_of(module)
    return "its graphs are " + ", ".join(names) if names else "it has no graph"


async def _as_graph(value: Any, module: ModuleType, attribute: str) -> Graph:
    place = f"{module.__name__}:{attribute}"
    if value is None:
        raise GraphNotFound(
            f"The module {module.__name__} has no attribute {attribute!r}; {_listing(module)}."
            f"{closest(attribute, [name for name in vars(module) if not name.startswith('_')])}"
        )
    if isinstance(value, StateGraph | Pregel):
        return value
    if not callable(value) or isinstance(value, ModuleType):
        raise GraphInvalid(f"{place} is a {type(value).__name__}, not a graph; {_listing(module)}.")
    made = await _call_factory(value, place)
    if not isinstance(made, StateGraph | Pregel):
        raise GraphInvalid(
            f"The factory {place} returned a {type(made).__name__}. It must return a StateGraph or a compiled graph."
        )
    return made


async def _call_factory(factory: Any, place: str) -> Any:
    """Call a factory with nothing, or with an empty config if it wants one, as LangGraph's own tools do."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError) as error:
        raise GraphInvalid(f"{place} is a {type(factory).__name__}, not a graph.") from error
    required = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if len(required) > 1 or any(p.kind is p.KEYWORD_ONLY for p in required):
        raise GraphInvalid(f"The factory {place} needs arguments. It may take none, or one: the config.")
    try:
        made = factory({"configurable": {}}) if required else factory()
        return await made if inspect.isawaitable(made) else made
    except Exception as error:
        raise GraphInvalid(f"The factory {place} failed: {type(error).__name__}: {error}") from error
