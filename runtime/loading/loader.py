"""GRAPH of the command line, found and made ready to run.

`GRAPH` is a name in `langgraph.json`, `package.module`, `package.module:attribute`, `file.py` or `file.py:attribute`.
The attribute is a `StateGraph`, a compiled graph (the functional API's `@entrypoint` makes one too), or a factory.
The graph gets the runtime's saver; a graph that was compiled with another checkpointer is refused, because its steps
would be saved elsewhere.
"""

from __future__ import annotations

import copy
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from superstep.runtime.faults import ConfigError, GraphInvalid, GraphNotFound
from superstep.runtime.loading.factories import FactoryCall, call_factory
from superstep.runtime.loading.modules import closest, hidden, import_file, import_named, is_importable, short_name
from superstep.runtime.loading.project import Project, read_project

if TYPE_CHECKING:
    from collections.abc import Callable
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
        module: the module, for its optional hooks `setup`, `lifespan`, `example_input`, `version` and `migrate`.
        resources: what a factory has opened for the graph.
    """

    name: str
    graph: Graph
    module: ModuleType
    resources: AsyncExitStack = field(default_factory=AsyncExitStack, repr=False)

    async def aclose(self) -> None:
        """Close what a factory has opened for the graph."""
        await self.resources.aclose()

    def hook(self, name: str) -> Any:
        """Return an optional attribute of the graph's module, or `None`."""
        return getattr(self.module, name, None)

    @property
    def version(self) -> str | None:
        """What the module calls this version of its graph: its `version`, if that is a text or a number."""
        declared = self.hook("version")
        return str(declared) if isinstance(declared, str | int) and not isinstance(declared, bool) else None

    @property
    def migrate(self) -> Callable[[dict[str, Any], str], Any] | None:
        """The function of the module that lifts the state of parked threads to this version, if there is one."""
        function = self.hook("migrate")
        return function if callable(function) else None

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


async def load_graph(spec: str, *, folder: Path | None = None, call: FactoryCall | None = None) -> LoadedGraph:
    """Find a graph by its name.

    Args:
        spec: A name in `langgraph.json`, `package.module`, `path/to/file.py`, and of the last two maybe `:attribute`.
        folder: The project folder, by default the current one. It goes at the end of the import path.
        call: What the graph is made for, if a factory makes it; by default to be looked at.

    Returns:
        The graph, not yet compiled on a saver.

    Raises:
        GraphNotFound: No such entry, module, file or attribute; the message suggests names that are close.
        GraphInvalid: The module fails to import, or the attribute is no graph.
        ConfigError: `langgraph.json` is broken.
    """
    project = read_project(folder)
    project.set_variables()
    project.make_importable()
    call = call or FactoryCall()
    if call.runs and project.refused:
        raise ConfigError(project.refused)
    if spec in project.graphs:
        module, attribute = _import_entry(project, spec)
        graph, resources = await _as_graph(getattr(module, attribute, None), module, attribute, call)
        return LoadedGraph(spec, graph, module, resources)
    module, name, attribute = _import_spec(project, spec)
    usual = _usual_attribute(module)
    if not _graphs_of(module) and is_importable(module) and (elsewhere := hidden(name, project.import_folders)):
        raise GraphNotFound(f"The module {name} is not of this project.{elsewhere}")
    if not attribute and usual is None:
        raise GraphInvalid(
            f"The module {name} has no attribute {', '.join(USUAL_NAMES)}, and {_listing(module)}. "
            f"Name the one to run: {name}:ATTRIBUTE."
        )
    wanted = attribute or str(usual)
    graph, resources = await _as_graph(getattr(module, wanted, None), module, wanted, call)
    return LoadedGraph(name if attribute in ("", usual) else f"{name}:{attribute}", graph, module, resources)


def _import_spec(project: Project, spec: str) -> tuple[ModuleType, str, str]:
    """Import what a name outside of `langgraph.json` means; return its shortest name and the attribute too."""
    file = re.fullmatch(r"(.+\.py)(?::(\w*))?", spec)
    if file:
        path = project.folder / file[1]
        module = import_file(path, *project.import_folders)
        return module, short_name(module.__name__) if is_importable(module) else file[1], file[2] or ""
    name, _, attribute = spec.partition(":")
    if not name or "/" in name:
        raise GraphNotFound(
            f"{spec!r} is no graph name. Write package.module, package.module:attribute or path/to/file.py:attribute, "
            "or give the graph a name in langgraph.json."
        )
    module = import_named(name, known=tuple(project.graphs), folders=project.import_folders)
    return module, short_name(name), attribute


def _import_entry(project: Project, spec: str) -> tuple[ModuleType, str]:
    target, _, attribute = project.graphs[spec].rpartition(":")
    if target.endswith(".py"):
        return import_file(project.folder / target, *project.import_folders, entry=spec), attribute
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


async def _as_graph(value: Any, module: ModuleType, attribute: str, call: FactoryCall) -> tuple[Graph, AsyncExitStack]:
    place = f"{module.__name__}:{attribute}"
    if value is None:
        raise GraphNotFound(
            f"The module {module.__name__} has no attribute {attribute!r}; {_listing(module)}."
            f"{closest(attribute, [name for name in vars(module) if not name.startswith('_')])}"
        )
    if isinstance(value, StateGraph | Pregel):
        return value, AsyncExitStack()
    if not callable(value) or isinstance(value, ModuleType):
        raise GraphInvalid(f"{place} is a {type(value).__name__}, not a graph; {_listing(module)}.")
    made, resources = await call_factory(value, call, place)
    if not isinstance(made, StateGraph | Pregel):
        await resources.aclose()
        raise GraphInvalid(
            f"The factory {place} returned a {type(made).__name__}. It must return a StateGraph or a compiled graph."
        )
    return made, resources
