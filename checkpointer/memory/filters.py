"""Filters of a search: as SQL, and the same for a value at hand. Pure.

A filter names fields of the value. What is wanted of one is a value that it equals, or a mapping of operators (`$eq`,
`$ne`, `$gt`, `$gte`, `$lt`, `$lte`), or a mapping of further fields inside it. All must hold.

Values are equal as JSON values are: numbers by what they are worth, `true` to no number, a list to the same list. An
order is one of numbers, or of texts by their characters; a field of another kind, or none, is neither smaller nor
greater than anything. `$ne` holds where the field is not there.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from superstep.checkpointer.memory.values import json_of
from superstep.runtime.faults import MemoryInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["conditions_of", "fits"]

_ORDER: Final[dict[str, tuple[str, Callable[[Any, Any], bool]]]] = {
    "$gt": (">", operator.gt),
    "$gte": (">=", operator.ge),
    "$lt": ("<", operator.lt),
    "$lte": ("<=", operator.le),
}
_MISSING: Final = object()


def conditions_of(wanted: Mapping[str, Any] | None, first: int) -> tuple[list[str], list[Any]]:
    """SQL for a filter on the column `value`, with arguments from number `first` on.

    Raises:
        MemoryInvalid: an operator is not known, or cannot be used with what it was given.
    """
    sql: list[str] = []
    args: list[Any] = []
    for path, name, value in _parts(wanted):
        at = first + len(args)
        field = f"(value::jsonb #> ${at}::text[])"
        args.append(list(path))
        if name == "$object":
            sql.append(f"coalesce(jsonb_typeof{field} = 'object', false)")
        elif name in ("$eq", "$ne"):
            negated = "NOT " if name == "$ne" else ""
            sql.append(f"{negated}coalesce({field} = ${at + 1}::text::jsonb, false)")
            args.append(json_of(value, "What a filter compares with"))
        else:
            kind, text = ("string", '{0} COLLATE "C"') if isinstance(value, str) else ("number", "{0}::numeric")
            stored, given = text.format(f"({field} #>> '{{}}')"), text.format(f"${at + 1}::text")
            sql.append(
                f"CASE WHEN jsonb_typeof{field} = '{kind}' THEN {stored} {_ORDER[name][0]} {given} ELSE false END"
            )
            args.append(value if isinstance(value, str) else json_of(value, "What a filter compares with"))
    return sql, args


def fits(value: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Whether a filter finds this value.

    Raises:
        MemoryInvalid: as for `conditions_of`.
    """
    for path, name, given in _parts(wanted):
        found: Any = value
        for key in path:
            found = found.get(key, _MISSING) if isinstance(found, Mapping) else _MISSING
        if not _holds(found, name, given):
            return False
    return True


def _holds(found: Any, name: str, given: Any) -> bool:
    if name == "$object":
        return isinstance(found, Mapping)
    if name in ("$eq", "$ne"):
        return (found is not _MISSING and _same(found, given)) == (name == "$eq")
    if isinstance(given, str):
        return isinstance(found, str) and _ORDER[name][1](found, given)
    return _is_number(found) and _ORDER[name][1](_worth(found), _worth(given))


def _parts(wanted: Mapping[str, Any] | None, path: Sequence[str] = ()) -> Iterator[tuple[Sequence[str], str, Any]]:
    """What has to hold: the path of a field, an operator, and what it is compared with."""
    for key, value in (wanted or {}).items():
        here = [*path, str(key)]
        if any("\0" in each for each in here):
            raise MemoryInvalid("A filter names a field with a NUL in its name, and there is none.")
        if not isinstance(value, Mapping):
            yield here, "$eq", value
        elif not any(str(name).startswith("$") for name in value):
            yield here, "$object", None
            yield from _parts(value, here)
        else:
            for name, given in value.items():
                _check(name, given)
                yield here, name, given


def _check(name: str, given: Any) -> None:
    if name in ("$eq", "$ne"):
        return
    if name not in _ORDER:
        raise MemoryInvalid(f"Unsupported operator of a filter: {name!r}. There are: $eq, $ne, {', '.join(_ORDER)}.")
    if not isinstance(given, str) and not _is_number(given):
        raise MemoryInvalid(f"{name} compares numbers or texts, not a {type(given).__name__}.")
    if isinstance(given, str) and "\0" in given:
        raise MemoryInvalid(f"{name} was given a text with a NUL in it, and no item has one.")


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same one in JSON."""
    if _is_number(one) and _is_number(other):
        return _worth(one) == _worth(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(each, other[key]) for key, each in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _worth(number: float) -> Decimal:
    """What the digits of a number in JSON are worth, which is what PostgreSQL compares."""
    return Decimal(repr(number))
