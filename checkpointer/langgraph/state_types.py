"""The classes that a graph's own schemas name: what its checkpoints may be rebuilt from. Pure.

LangGraph has such a list too (`langgraph._internal._serde`), under LANGGRAPH_STRICT_MSGPACK only. This one also follows
named tuples, generics, type variables and abstract containers, what `create_agent` was told to answer with, and what
the `@task` functions of a graph declare to return. It holds classes and not names, so classes of a function are found.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import inspect
import sys
import uuid
from collections import deque
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.pregel import Pregel
from langgraph.pregel._utils import get_function_nonlocals
from typing_extensions import is_typeddict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["classes_in", "state_types"]

# Functions whose variable of that name holds what the agent they belong to was told to answer with.
_AGENTS = {
    "langchain.agents.factory": "initial_response_format",
    "langgraph.prebuilt.chat_agent_executor": "response_format",
}
_TASK_FUNCTION = ("langgraph.func", "_TaskFunction")
# Classes of which msgpack stores the name, with what they are made from.
_BASES = (Enum, set, frozenset, deque, PurePath, uuid.UUID, decimal.Decimal, datetime.date, datetime.time)
_METHODS = ("model_dump", "get_secret_value", "dict", "_asdict")  # pydantic's, of version 1 too, and named tuples'


def state_types(graph: Pregel[Any, Any, Any, Any]) -> frozenset[type]:
    """The classes of a graph's state, input, output and context schemas, of its nodes' inputs and its channels.

    Those of its subgraphs too, also of what its tools run: what these ask a human is stored with the graph as well.
    """
    declared: list[Any] = []
    graphs = [graph]
    for each in graphs:
        declared.extend(_declared(each))
        graphs.extend(inner for inner in _inside(each) if not any(inner is known for known in graphs))
    return frozenset(classes_in(declared))


def classes_in(annotations: Iterable[Any]) -> set[type]:
    """The classes that annotations name, and the fields of these name, whose objects are stored by name."""
    found: set[type] = set()
    seen: dict[int, Any] = {}  # by identity, since not every annotation has a hash; kept, so that no identity is reused
    left = list(annotations)
    while left:
        annotation = left.pop()
        if annotation is None or id(annotation) in seen or _is_known(annotation):
            continue
        seen[id(annotation)] = annotation
        left.extend(_parts(annotation))
        if isinstance(annotation, type) and _is_stored_by_name(annotation):
            found.add(annotation)
    return found


def _is_known(annotation: Any) -> bool:
    """Whether every serializer of LangGraph rebuilds the class anyway, such as messages."""
    return isinstance(annotation, type) and (annotation.__module__, annotation.__name__) in SAFE_MSGPACK_TYPES


def _is_stored_by_name(cls: type) -> bool:
    if is_typeddict(cls) or cls.__module__ == "builtins" or inspect.isabstract(cls):
        return False
    return dataclasses.is_dataclass(cls) or issubclass(cls, _BASES) or any(hasattr(cls, name) for name in _METHODS)


def _parts(annotation: Any) -> Iterator[Any]:
    """What an annotation consists of."""
    origin = get_origin(annotation)
    if origin is Literal:
        yield from map(type, get_args(annotation))
    elif origin is Annotated:
        yield get_args(annotation)[0]
    elif origin is not None:
        yield origin
        yield from (each for argument in get_args(annotation) for each in _listed(argument))
    elif isinstance(annotation, TypeVar):
        yield from (annotation.__bound__, *annotation.__constraints__, getattr(annotation, "__default__", None))
    elif hasattr(annotation, "__supertype__"):  # NewType
        yield annotation.__supertype__
    elif hasattr(annotation, "__value__") and hasattr(annotation, "__type_params__"):  # `type X = ...`
        yield annotation.__value__
    elif isinstance(annotation, type) and annotation.__module__ != "builtins":
        yield from _fields(annotation)


def _listed(argument: Any) -> list[Any]:
    return argument if isinstance(argument, list) else [argument]  # the parameters of a Callable


def _fields(cls: type) -> Iterator[Any]:
    """The annotations of a class's fields."""
    models = getattr(cls, "model_fields", None) if hasattr(cls, "model_dump") else None
    if models is not None:  # pydantic has resolved these, whatever scope the class was made in
        yield from (field.annotation for field in models.values())
    elif isinstance(old := getattr(cls, "__fields__", None), dict):
        yield from (getattr(field, "outer_type_", None) for field in old.values())
    elif is_typeddict(cls) or dataclasses.is_dataclass(cls) or hasattr(cls, "_fields"):
        yield from _hints(cls)


def _hints(cls: Any) -> Iterator[Any]:
    """Resolved annotations; of a class that names what cannot be found, those that can."""
    try:
        yield from get_type_hints(cls, include_extras=True).values()
    except Exception:  # noqa: BLE001 - whatever an annotation of a user's raises
        names = vars(sys.modules.get(getattr(cls, "__module__", "")) or object)
        for annotation in getattr(cls, "__annotations__", {}).values():
            if isinstance(annotation, str):
                probe = type("_", (), {"__annotations__": {"it": annotation}})
                try:
                    yield from get_type_hints(probe, dict(names), dict(vars(cls)), include_extras=True).values()
                except Exception:  # noqa: BLE001, S112
                    continue
            else:
                yield annotation


def _declared(graph: Pregel[Any, Any, Any, Any]) -> Iterator[Any]:
    """All annotations of a graph."""
    for channel in graph.channels.values():
        yield getattr(channel, "ValueType", None)
        yield getattr(channel, "UpdateType", None)
    yield getattr(graph, "context_schema", None)
    builder = getattr(graph, "builder", None)
    for name in ("state_schema", "input_schema", "output_schema", "context_schema"):
        yield getattr(builder, name, None)
    yield from getattr(builder, "schemas", {})
    for node in getattr(builder, "nodes", {}).values():
        yield getattr(node, "input_schema", None)
    for branches in getattr(builder, "branches", {}).values():
        for branch in branches.values():
            yield getattr(branch, "input_schema", None)
    for node in graph.nodes.values():
        for function in _functions(node.bound):
            if builder is None:  # an `@entrypoint`: its annotations are its schemas, and may still be texts
                yield from _signature(function).values()
            yield from _response_format(function)
            yield from _task_results(function, set())


def _inside(graph: Pregel[Any, Any, Any, Any]) -> Iterator[Pregel[Any, Any, Any, Any]]:
    for node in graph.nodes.values():
        yield from (each for each in node.subgraphs or () if isinstance(each, Pregel))
        for tool in getattr(node.bound, "tools_by_name", {}).values():
            for function in (getattr(tool, "func", None), getattr(tool, "coroutine", None)):
                if function is not None:
                    yield from (each for each in get_function_nonlocals(function) if isinstance(each, Pregel))


def _functions(runnable: Any) -> Iterator[Any]:
    for step in getattr(runnable, "steps", None) or (runnable,):
        yield from (f for f in (getattr(step, "func", None), getattr(step, "afunc", None)) if f is not None)


def _response_format(function: Any) -> Iterator[Any]:
    """What an agent was told to answer with: its schema says only that there is an answer."""
    name = _AGENTS.get(getattr(function, "__module__", ""))
    if name is None or not inspect.isfunction(function):
        return
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if variable == name:
            wanted = cell.cell_contents
            wanted = wanted[-1] if isinstance(wanted, tuple) else wanted  # a prompt stands in front
            yield wanted if isinstance(wanted, type) else getattr(wanted, "schema", wanted)


def _task_results(function: Any, seen: set[int]) -> Iterator[Any]:
    """What the `@task` functions that a function calls declare to return."""
    for each in get_function_nonlocals(function):
        kind = type(each)
        if (kind.__module__, kind.__name__) == _TASK_FUNCTION and id(each) not in seen:
            seen.add(id(each))
            called = inspect.unwrap(each.func)
            yield _signature(called).get("return")
            yield from _task_results(called, seen)


def _signature(function: Any) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - see `_hints`
        return {}
