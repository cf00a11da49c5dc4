"""Filters on metadata, as data that a program may build from input: never SQL text. Pure.

    {"tenant": "a", "year": {"$gte": 2024}}                     both
    {"$or": [{"lang": "de"}, {"lang": {"$exists": False}}]}     one of them

A value stands for itself: the key is there and has it; of a list or an object, what is given must be in it.
Numbers are compared with numbers, texts with texts (by code points): a key of another kind does not match. `$ne`,
`$nin` and `$not` match what their opposites do not, also where the key is missing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import DocumentInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from superstep.checkpointer.collections.definition import Definition

__all__ = ["OPERATORS", "narrowed", "where_of"]

_COMPARED = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
OPERATORS = ("$eq", "$ne", *_COMPARED, "$in", "$nin", "$exists", "$contains", "$and", "$or", "$not")


def narrowed(
    where: str | None, args: Sequence[Any], filter_: Mapping[str, Any] | None, definition: Definition | None = None
) -> tuple[str | None, list[Any]]:
    """A condition and its arguments, with a filter added.

    Raises:
        DocumentInvalid: see `where_of`.
    """
    if not filter_:
        return where, list(args)
    sql, values = where_of(filter_, len(args) + 1, definition)
    return (f"({where}\n) AND {sql}" if where else sql), [*args, *values]


def where_of(filter_: Mapping[str, Any], at: int = 1, definition: Definition | None = None) -> tuple[str, list[Any]]:
    """SQL on a column `metadata` of type jsonb, and its arguments, numbered from `at`.

    Raises:
        DocumentInvalid: it is no filter, or names a key that the collection's metadata cannot have.
    """
    compiler = _Compiler(at, definition)
    return compiler.all_of(filter_), compiler.values


class _Compiler:
    def __init__(self, at: int, definition: Definition | None) -> None:
        self._at = at
        self._keys = definition.metadata_schema if definition is not None else None
        self.values: list[Any] = []

    def all_of(self, filter_: Any) -> str:
        if not isinstance(filter_, dict):
            raise _wrong(f"a filter is an object, not {type(filter_).__name__}")
        return self._joined("AND", [self._entry(key, value) for key, value in filter_.items()])

    def _entry(self, key: Any, value: Any) -> str:
        if key in ("$and", "$or"):
            if not isinstance(value, list | tuple) or not value:
                raise _wrong(f"{key} takes a list of filters")
            return self._joined(key[1:].upper(), [self.all_of(each) for each in value])
        if key == "$not":
            return f"NOT coalesce({self.all_of(value)}, false)"
        if not isinstance(key, str) or key.startswith("$"):
            raise _wrong(f"{key!r} is neither a key nor one of {', '.join(OPERATORS)}")
        if self._keys is not None and key not in self._keys:
            raise _wrong(f"metadata have no key {key!r}, but {', '.join(self._keys)}")
        if isinstance(value, dict) and any(isinstance(name, str) and name.startswith("$") for name in value):
            return self._joined("AND", [self._condition(key, name, each) for name, each in value.items()])
        return self._equals(key, value)

    def _condition(self, key: str, name: str, value: Any) -> str:
        if name == "$eq":
            return self._equals(key, value)
        if name == "$ne":
            return f"NOT {self._equals(key, value)}"
        if name in _COMPARED:
            return self._compares(key, _COMPARED[name], value)
        if name in ("$in", "$nin"):
            if not isinstance(value, list | tuple):
                raise _wrong(f"{name} takes a list")
            any_of = self._joined("OR", [self._equals(key, each) for each in value])
            return any_of if name == "$in" else f"NOT {any_of}"
        if name == "$exists":
            there = f"(metadata ? {self._value(key)}::text)"
            return there if value else f"NOT {there}"
        if name == "$contains":
            return self._equals(key, [value])
        raise _wrong(f"{name!r} is none of {', '.join(OPERATORS)}")

    def _equals(self, key: str, value: Any) -> str:
        return f"(metadata @> {self._json({key: value})})"

    def _compares(self, key: str, operator: str, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise _wrong(f"only numbers and texts are greater or less, not {type(value).__name__}")
        name = self._value(key)
        if isinstance(value, str):
            typed, left = "string", f'(metadata ->> {name}::text) COLLATE "C"'
            right = f"{self._value(value)}::text"
        else:
            typed, left, right = "number", f"(metadata -> {name}::text)", self._json(value)
        kind = f"jsonb_typeof(metadata -> {name}::text)"
        return f"coalesce({kind} = '{typed}' AND {left} {operator} {right}, false)"

    def _joined(self, word: str, parts: Sequence[str]) -> str:
        if not parts:
            return "true" if word == "AND" else "false"
        return f"({f' {word} '.join(parts)})"

    def _json(self, value: Any) -> str:
        try:
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as e:
            raise _wrong(f"a value has no form in JSON ({type(value).__name__})") from e
        if "\\u0000" in text.replace("\\\\", ""):
            raise _wrong("PostgreSQL's JSON has no character of number 0")
        return f"{self._value(text)}::text::jsonb"

    def _value(self, value: Any) -> str:
        if isinstance(value, str) and "\0" in value:
            raise _wrong("PostgreSQL's texts have no character of number 0")
        self.values.append(value)
        return f"${self._at + len(self.values) - 1}"


def _wrong(why: str) -> DocumentInvalid:
    return DocumentInvalid(f"The filter is none: {why}.")
