"""What type annotations say about an input: which keys must be there, and checks of single values."""

from __future__ import annotations

import json
import sys
import types
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import typing_extensions
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

__all__ = ["required_keys", "typed"]

PLAIN = (str, int, float, bool, type(None))


def required_keys(schema: Any) -> set[str]:
    """Return the keys of a TypedDict that must be there.

    Read from the resolved annotations: in a module with `from __future__ import annotations`, Python 3.11's own
    `__required_keys__` overlooks `NotRequired`.
    """
    hints = get_type_hints(schema, include_extras=True)
    return {
        key
        for key, hint in hints.items()
        if get_origin(hint) is Required or (get_origin(hint) is not NotRequired and key in schema.__required_keys__)
    }


def typed(annotation: Any, value: Any) -> Any:
    """Turn a JSON value into an annotated type.

    Args:
        annotation: As a state or signature has it: a class, a generic, `Annotated`, a TypedDict.
        value: The parsed JSON.

    Returns:
        The typed value; the value itself where there is nothing to turn, or pydantic has no idea of the type.

    Raises:
        pydantic.ValidationError: The value does not fit.
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(_for_pydantic(annotation))
    except (PydanticUserError, NameError, TypeError):
        return value
    # Strict JSON: "5" is not a number, while texts still become dates and enums, and lists tuples.
    made = adapter.validate_json(json.dumps(value), strict=True)
    # A plain value stays as it came: pydantic drops the keys that a TypedDict lacks.
    return value if _is_plain(made) else made


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(item) for item in value.values())
    return all(_is_plain(item) for item in value) if isinstance(value, list) else type(value) in PLAIN


def _for_pydantic(annotation: Any, within: tuple[Any, ...] = ()) -> Any:
    """Rewrite `typing.TypedDict`, which pydantic refuses before Python 3.12, wherever it is in an annotation."""
    if sys.version_info >= (3, 12) or annotation in within:
        return Any if annotation in within else annotation
    if typing_extensions.is_typeddict(annotation):
        required, inner = required_keys(annotation), (*within, annotation)
        fields = {}
        for key, hint in get_type_hints(annotation, include_extras=True).items():
            bare = get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint
            kind = _for_pydantic(bare, inner)
            fields[key] = kind if key in required else NotRequired[kind]
        return typing_extensions.TypedDict(annotation.__name__, fields)  # type: ignore[operator]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[_for_pydantic(arguments[0], within), *arguments[1:]]
    if origin is None or origin is Literal or not all(isinstance(a, type) or get_origin(a) for a in arguments):
        return annotation
    rewritten = tuple(_for_pydantic(argument, within) for argument in arguments)
    return Union[rewritten] if origin in (Union, types.UnionType) else origin[rewritten]  # noqa: UP007 - made at run time
