"""The version of a graph: what it says of itself, or a digest of its structure. Pure.

The digest covers what a parked thread can depend on: names of nodes and what triggers them, edges and branches,
channels with their kinds, types and reducers, the fields of the classes that the state is made of, and all of that for
subgraphs. It is the same in every process, and does not change with a node's body, a docstring, or the module that a
name is in.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from langgraph.pregel import Pregel

from superstep.checkpointer.langgraph.typed_saver import types_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GraphVersion", "graph_version", "subgraphs_of"]

_PREFIX = "structure:"
_DIGITS = 16
_digests: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class GraphVersion:
    """A graph as threads remember it.

    Attributes:
        name: the version that its author gave it, or "structure:" with a digest.
        structure: the digest in any case.
        graph: what it is the version of.
    """

    name: str
    structure: str
    graph: Pregel[Any, Any, Any, Any] = field(repr=False, compare=False)

    def contradicts(self, other: str) -> bool:
        """Whether the authors of both versions have named them, and otherwise: then they mean it."""
        return self.name != other and not self.name.startswith(_PREFIX) and not other.startswith(_PREFIX)


def graph_version(graph: Pregel[Any, Any, Any, Any], declared: str | None) -> GraphVersion:
    """The version of a graph, by the name that its author gave it if there is one."""
    digest = _digests.get(graph)
    if digest is None:
        digest = _digests[graph] = _digest(_structure(graph, ()))
    return GraphVersion(declared or f"{_PREFIX}{digest}", digest, graph)


def subgraphs_of(graph: Pregel[Any, Any, Any, Any], node: str) -> list[Pregel[Any, Any, Any, Any]]:
    """The graphs that a node runs, as far as LangGraph can see them."""
    found = graph.nodes.get(node)
    return [each for each in (found.subgraphs or () if found is not None else ()) if isinstance(each, Pregel)]


def _digest(structure: Any) -> str:
    text = json.dumps(structure, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _structure(graph: Pregel[Any, Any, Any, Any], around: tuple[Any, ...]) -> dict[str, Any]:
    inside = (*around, graph)
    return {
        "nodes": {
            name: {
                "triggers": sorted(node.triggers),
                "subgraphs": [
                    "itself" if any(each is other for other in inside) else _structure(each, inside)
                    for each in subgraphs_of(graph, name)
                ],
            }
            for name, node in graph.nodes.items()
        },
        "channels": {name: _channel(each) for name, each in graph.channels.items()},
        "edges": sorted(_edges(graph)),
        "input": graph.input_channels,
        "output": graph.output_channels,
        "classes": sorted(set(_classes(graph))),
    }


def _edges(graph: Pregel[Any, Any, Any, Any]) -> Iterator[str]:
    builder = getattr(graph, "builder", None)
    yield from (f"{start}>{end}" for start, end in getattr(builder, "edges", ()))
    yield from (f"{'+'.join(sorted(starts))}>{end}" for starts, end in getattr(builder, "waiting_edges", ()))
    for start, branches in getattr(builder, "branches", {}).items():
        for name, branch in branches.items():
            yield f"{start}?{name}>{','.join(sorted(map(str, (branch.ends or {}).values())))}"


def _channel(channel: Any) -> list[str]:
    reducer = getattr(channel, "operator", None) or getattr(channel, "reducer", None)
    return [type(channel).__name__, _text(getattr(channel, "ValueType", None)), _text(reducer)]


def _classes(graph: Pregel[Any, Any, Any, Any]) -> Iterator[str]:
    for each in types_of(graph):
        members = list(each.__members__) if issubclass(each, Enum) else []
        fields = sorted(f"{name}: {_text(annotation)}" for name, annotation in _fields(each).items())
        yield f"{each.__qualname__}({', '.join([*members, *fields])})"


def _fields(cls: type) -> dict[str, Any]:
    models = getattr(cls, "model_fields", None)
    if isinstance(models, dict):
        return {name: getattr(model, "annotation", None) for name, model in models.items()}
    try:
        return get_type_hints(cls)
    except Exception:  # noqa: BLE001 - whatever an annotation of a user's raises: its text has to do
        return dict(getattr(cls, "__annotations__", {}))


def _text(annotation: Any) -> str:
    """A type as text that is the same in every process: names without modules, and no addresses."""
    arguments = get_args(annotation)
    if get_origin(annotation) is not None:
        return f"{_text(get_origin(annotation))}[{', '.join(map(_text, arguments))}]"
    if annotation is None or isinstance(annotation, str | int | bool | bytes):
        return repr(annotation)
    if isinstance(annotation, list | tuple):
        return f"[{', '.join(map(_text, annotation))}]"
    name = getattr(annotation, "__qualname__", None) or getattr(annotation, "__name__", None)
    return str(name or type(annotation).__qualname__)
