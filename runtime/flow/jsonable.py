"""Any state value as JSON: what LangGraph keeps in channels is often a model, a message or a date."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Mapping
from typing import Any

__all__ = ["as_json_text", "jsonable"]


def jsonable(value: Any) -> Any:
    """Turn a value into what JSON can hold, without failing on any type.

    Args:
        value: Anything a channel can hold.

    Returns:
        Messages become type, content, id, name and tool calls; models and dataclasses objects; dates ISO texts; bytes
        base64; decimals, NaN and infinities texts; anything unknown its `repr`.
    """
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {_key(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    return _object(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(jsonable(key))


def _object(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return jsonable(value.value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID | datetime.timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if hasattr(value, "content") and hasattr(value, "type") and hasattr(value, "additional_kwargs"):
        more = {name: found for name in ("id", "name", "tool_calls") if (found := getattr(value, name, None))}
        return jsonable({"type": value.type, "content": value.content, **more})
    if hasattr(value, "model_dump"):
        return jsonable(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return repr(value)


def as_json_text(value: Any, *, encoding: str | None = "utf-8", indent: int | None = 2) -> str:
    """Return the JSON text of a value, in characters that an output encoding has."""
    plain = jsonable(value)
    text = json.dumps(plain, ensure_ascii=False, indent=indent)
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(plain, indent=indent)
    return text
