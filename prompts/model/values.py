"""Values as templates show them: plain data, always in the same order, always in the same words.

Equal facts must give an equal request, because answers of models are remembered by request. So what goes into a
template is copied into plain data first, with keys in order, and everything that is not text comes out as JSON. Copying
also means that a template never reaches an object of the caller's, only numbers, texts, dates, lists and dicts.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import json
import uuid
from typing import Any

__all__ = ["as_json", "as_text", "is_mapping", "json_data", "plain"]

_DEEPEST = 100
_DATES = (datetime.date, datetime.time)
_TEXT_LIKE = (
    decimal.Decimal,
    uuid.UUID,
    datetime.timedelta,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)


def is_mapping(value: Any) -> bool:
    """Whether a value has keys and values: a mapping, or something like it, such as a row of the database driver."""
    return hasattr(value, "keys") and hasattr(value, "__getitem__") and not isinstance(value, type)


def plain(value: Any, where: str = "", depth: int = 0) -> Any:
    """Copy a value into plain data.

    Args:
        value: Numbers, texts, dates, decimals, UUIDs, network addresses, `None`, enums of these, and lists, tuples and
            mappings of these.
        where: Path inside the whole value, for the error.
        depth: How deep inside the whole value.

    Returns:
        The copy; dicts have text keys in order.

    Raises:
        TypeError: There is something else in it. The message says where and never shows a value.
    """
    if depth > _DEEPEST:
        raise TypeError(f"is nested more than {_DEEPEST} deep")
    if isinstance(value, enum.Enum):
        return plain(value.value, where, depth)
    if value is None or isinstance(value, (bool, *_DATES, *_TEXT_LIKE)):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # a subclass may have a mind of its own: markupsafe's escapes what it is added to
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if is_mapping(value):
        keys = _texts_of_keys(value, where)
        return {text: plain(value[keys[text]], f"{where}.{text}", depth + 1) for text in sorted(keys)}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(value)]
    raise TypeError(f"has a {type(value).__name__}{f' at {where}' if where else ''}, which has no JSON form")


def _texts_of_keys(value: Any, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in value.keys():  # noqa: SIM118 - iterating over a row gives its values
        text = as_text(key)
        if found.setdefault(text, key) != key:
            raise TypeError(f"has two keys{f' at {where}' if where else ''} that read alike")
    return found


def as_text(value: Any) -> Any:
    """What `{{ value }}` prints: text as it is, dates and decimals as ISO and decimal text, everything else as JSON."""
    if isinstance(value, str):
        return value
    value = plain(value)
    return _scalar(value) if isinstance(value, _DATES + _TEXT_LIKE) else as_json(value)


def as_json(value: Any, indent: int | None = None) -> str:
    """The filter `json`: JSON with keys in order and letters as they are; dates and decimals are texts in it."""
    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False, indent=indent, default=_scalar)


def json_data(value: Any) -> Any:
    """Copy a value into what JSON can hold.

    Raises:
        TypeError: It cannot.
        ValueError: There is a number in it that is not finite.
    """
    return json.loads(json.dumps(plain(value), allow_nan=False, default=_scalar))


def _scalar(value: Any) -> str:
    return value.isoformat() if isinstance(value, _DATES) else str(value)
