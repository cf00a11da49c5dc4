"""A serializer that rebuilds the classes it is given, and no others of a user's. Pure."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_DELTA_SNAPSHOT,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
    JsonPlusSerializer,
    _msgpack_default,
)
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Send
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["PACK", "StateSerializer", "by_fields", "strict", "with_classes"]

_OPTION = ormsgpack.OPT_NON_STR_KEYS
PACK = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_REPLACE_SURROGATES
)
"""How LangGraph's serializer packs values."""
_BY_FIELDS: ContextVar[bool] = ContextVar("models are stored by their fields", default=False)


@contextmanager
def by_fields() -> Iterator[None]:
    """Store models of a graph's own by their fields, each as what it is.

    LangGraph stores what pydantic dumps, where a message in a `list[BaseMessage]` is no longer one of a human.
    """
    token = _BY_FIELDS.set(True)
    try:
        yield
    finally:
        _BY_FIELDS.reset(token)


def strict() -> JsonPlusSerializer:
    """LangGraph's serializer without pickle, that rebuilds only LangGraph's, LangChain's and plain Python types."""
    return JsonPlusSerializer(allowed_msgpack_modules=None)


def with_classes(serde: SerializerProtocol, classes: Collection[type]) -> SerializerProtocol:
    """The same serializer, that rebuilds these classes as well. One of a user's own making is left as it is."""
    if isinstance(serde, EncryptedSerializer):
        inner = with_classes(serde.serde, classes)
        if inner is serde.serde:
            return serde
        clone = copy.copy(serde)
        clone.serde = inner
        return clone
    if isinstance(serde, StateSerializer):
        return serde if serde.covers(classes) else StateSerializer(serde.base, {*serde.classes.values(), *classes})
    if type(serde) is not JsonPlusSerializer or serde._custom_unpack_ext_hook or not classes:  # noqa: SLF001
        return serde
    return StateSerializer(serde, classes)


class StateSerializer(JsonPlusSerializer):
    """A serializer of LangGraph's that also rebuilds classes it was given, whatever scope these were made in.

    What is stored is what `base` stores: the name of a class and what its object is made from. Of two classes with one
    name in one module only one comes back as itself.

    Attributes:
        base: the serializer for everything else.
        classes: by the module and the name that are stored.
    """

    def __init__(self, base: JsonPlusSerializer, classes: Iterable[type]) -> None:
        self.__dict__.update(vars(base))
        self.base = base
        self.classes = {(cls.__module__, cls.__name__): cls for cls in classes}

    def covers(self, classes: Iterable[type]) -> bool:
        """Whether it rebuilds all of these."""
        return all(self.classes.get((cls.__module__, cls.__name__)) is cls for cls in classes)

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[tuple[str, ...] | type]) -> StateSerializer:
        """See LangGraph."""
        base = self.base.with_msgpack_allowlist(extra_allowlist)
        return self if base is self.base else StateSerializer(base, self.classes.values())

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """See LangGraph; within `by_fields`, models of the classes are stored by their fields."""
        return ("msgpack", self._pack(obj)) if _BY_FIELDS.get() else super().dumps_typed(obj)

    def _pack(self, obj: Any) -> bytes:
        return ormsgpack.packb(obj, default=self._packed, option=PACK)

    def _packed(self, obj: Any) -> Any:
        cls = type(obj)
        name = (cls.__module__, cls.__name__)
        if isinstance(obj, Send) and obj.timeout is None:
            return ormsgpack.Ext(EXT_CONSTRUCTOR_POS_ARGS, self._pack((*name, (obj.node, obj.arg))))
        if self.classes.get(name) is cls and issubclass(cls, BaseModel):
            kept = [field for field, info in cls.model_fields.items() if not info.exclude]
            fields = {field: getattr(obj, field) for field in kept} | (obj.model_extra or {})
            return ormsgpack.Ext(EXT_PYDANTIC_V2, self._pack((*name, fields, "model_validate_json")))
        if isinstance(obj, _DeltaSnapshot):
            return ormsgpack.Ext(EXT_DELTA_SNAPSHOT, self._pack(obj.value))
        if dataclasses.is_dataclass(obj) and not hasattr(obj, "model_dump"):
            made_from = {field.name: getattr(obj, field.name) for field in dataclasses.fields(obj)}
            return ormsgpack.Ext(EXT_CONSTRUCTOR_KW_ARGS, self._pack((*name, made_from)))
        return _msgpack_default(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """See LangGraph."""
        kind, content = data
        return self._unpack(content) if kind == "msgpack" else self.base.loads_typed(data)

    def _unpack(self, data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self._rebuild, option=_OPTION)

    def _rebuild(self, code: int, data: bytes) -> Any:
        """As LangGraph's hook, which finds classes by importing modules, and would not find ours inside of others."""
        if code == EXT_DELTA_SNAPSHOT:
            return _DeltaSnapshot(self._unpack(data))
        make = _MAKE.get(code)
        if make is None:
            return self._unpack_ext_hook(code, data)
        module, name, content, *_ = self._unpack(data)
        cls = self.classes.get((module, name))
        try:
            if cls is not None:
                return _MAKE_OURS.get(code, make)(cls, content)
            if (module, name) in SAFE_MSGPACK_TYPES or (module, name) in self._named():
                return make(getattr(import_module(module), name), content)
        except Exception:  # noqa: BLE001 - whatever a class of a user's raises; LangGraph says so in its log
            return self._unpack_ext_hook(code, data)
        return self._unpack_ext_hook(code, data)

    def _named(self) -> Collection[tuple[str, ...]]:
        """What the user allows by name."""
        allowed = self._allowed_msgpack_modules
        return () if isinstance(allowed, bool) or allowed is None else allowed


def _model(cls: Any, fields: dict[str, Any]) -> Any:
    try:
        return cls(**fields)
    except Exception:  # noqa: BLE001 - as LangGraph does
        return cls.model_construct(**fields)


def _own_model(cls: Any, fields: Any) -> Any:
    """Also of a model with aliases: what is stored has the names of its fields. Computed fields compute themselves."""
    if isinstance(fields, dict):
        fields = {name: value for name, value in fields.items() if name not in cls.model_computed_fields}
    return cls.model_validate(fields, by_name=True)


def _old_model(cls: Any, fields: dict[str, Any]) -> Any:
    try:
        return cls(**fields)
    except Exception:  # noqa: BLE001 - as LangGraph does
        return cls.construct(**fields)


def _own_single(cls: Any, content: Any) -> Any:
    """Also a member of an enum whose values are tuples, of which msgpack makes lists."""
    if issubclass(cls, Enum) and isinstance(content, list):
        return cls(tuple(content))
    return cls(content)


def _own_fields(cls: Any, fields: dict[str, Any]) -> Any:
    """Also of a dataclass with fields that its constructor does not take."""
    late = {f.name for f in dataclasses.fields(cls) if not f.init} if dataclasses.is_dataclass(cls) else set()
    made = cls(**{name: value for name, value in fields.items() if name not in late})
    for name in late & fields.keys():
        object.__setattr__(made, name, fields[name])
    return made


def _positional(cls: Any, content: Any) -> Any:
    if cls is Send and len(content) > 2:
        return Send(content[0], content[1], timeout=content[2])
    return cls(*content)


_MAKE: Mapping[int, Callable[[Any, Any], Any]] = {
    EXT_CONSTRUCTOR_SINGLE_ARG: lambda cls, content: cls(content),
    EXT_CONSTRUCTOR_POS_ARGS: _positional,
    EXT_CONSTRUCTOR_KW_ARGS: lambda cls, content: cls(**content),
    EXT_PYDANTIC_V1: _old_model,
    EXT_PYDANTIC_V2: _model,
}
_MAKE_OURS: Mapping[int, Callable[[Any, Any], Any]] = {
    EXT_CONSTRUCTOR_SINGLE_ARG: _own_single,
    EXT_CONSTRUCTOR_KW_ARGS: _own_fields,
    EXT_PYDANTIC_V2: _own_model,
}
