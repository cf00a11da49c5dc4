"""A saver that each graph runs with as if it had been made for the types of that graph."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel

from superstep.checkpointer.langgraph.serializer import with_classes
from superstep.checkpointer.langgraph.state_types import state_types

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["TypedSaver", "install", "typed_for", "types_of"]

_MOST_CLONES = 1024
_types: WeakKeyDictionary[Any, frozenset[type]] = WeakKeyDictionary()
_langgraphs = Pregel._apply_checkpointer_allowlist  # noqa: SLF001


class TypedSaver(BaseCheckpointSaver[str]):
    """LangGraph asks a saver for a clone that knows the types of a graph, each time before it uses the saver.

    It does so under LANGGRAPH_STRICT_MSGPACK; after `install`, for savers of this class, always. A subgraph is lent the
    clone of its parent, and makes one of that: it knows the types of both.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._clones: dict[frozenset[type], Self] = {}

    def with_classes(self, classes: frozenset[type]) -> Self:
        """This saver, which also rebuilds objects of these classes. What the saver holds is shared."""
        clone = self._clones.get(classes)
        if clone is None:
            if len(self._clones) >= _MOST_CLONES:  # graphs that are made anew for each run
                self._clones.clear()
            serde = with_classes(self.serde, classes)
            clone = self if serde is self.serde else self._clone(serde)
            self._clones[classes] = clone
        return clone

    def of_graph(self, graph: Pregel[Any, Any, Any, Any]) -> Self:
        """This saver as the graph runs with it: it knows the types of its schemas."""
        return self.with_classes(types_of(graph))

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> Self:
        """See LangGraph."""
        clone = super().with_allowlist(extra_allowlist)
        return self if clone is self else self._clone(clone.serde)

    def _clone(self, serde: Any) -> Self:
        clone = copy.copy(self)
        clone.serde = serde
        clone.__dict__["_clones"] = {}
        return clone


def install() -> None:
    """Graphs of this process use savers of this class with the types of their schemas. Safe to call repeatedly.

    LangGraph has no hook for it: a method of its `Pregel` is replaced, and calls the one that was there. Graphs with
    other savers are not touched. It works for graphs that were compiled before, too.
    """
    Pregel._apply_checkpointer_allowlist = _apply  # type: ignore[method-assign, assignment]  # noqa: SLF001


def typed_for(graph: Pregel[Any, Any, Any, Any], saver: TypedSaver) -> TypedSaver:
    """The saver as the graph uses it: it knows the types of the graph."""
    return saver.with_classes(types_of(graph))


def _apply(
    graph: Pregel[Any, Any, Any, Any], saver: BaseCheckpointSaver[Any] | None
) -> BaseCheckpointSaver[Any] | None:
    given = _langgraphs(graph, saver)
    return given.with_classes(types_of(graph)) if isinstance(given, TypedSaver) else given


def types_of(graph: Pregel[Any, Any, Any, Any]) -> frozenset[type]:
    """`state_types` of a graph, looked for once."""
    found = _types.get(graph)
    if found is None:
        found = _types[graph] = state_types(graph)
    return found
