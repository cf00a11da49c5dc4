"""Places in a payload, and what stands there: keys, numbers, times, texts. Pure.

A path is names with dots between them, `after.account.id`; a number is an index into a list. Keys are compared as
texts: the number 7 and the text "7" are one key. Members of `distinct` and `top` are compared as JSON values: they are
two.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "LONGEST",
    "MISSING",
    "Misfit",
    "at_path",
    "canonical",
    "key_of",
    "loads",
    "moment_of",
    "number_of",
    "parts_of",
]

LONGEST = 1000
"""Bytes that a key or a member may have at most: an index holds it."""

MISSING = object()
"""What stands where nothing is."""

_DIGITS = 1000  # before and after the point, far below what numeric holds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = json.encoder.encode_basestring
_EXACT = Context(prec=4 * _DIGITS)


class Misfit(ValueError):
    """An event does not have what an aggregate needs of it."""


def parts_of(path: str) -> tuple[str, ...]:
    """The names of a path.

    Raises:
        ValueError: it is none.
    """
    parts = tuple(path.split("."))
    if not all(parts):
        raise ValueError('must be a path into the payload, such as "after.amount"')
    return parts


def at_path(payload: Any, parts: Sequence[str]) -> Any:
    """What stands at a path, or `MISSING`."""
    if len(parts) == 1 and type(payload) is dict:  # nearly always
        return payload.get(parts[0], MISSING)
    for part in parts:
        if isinstance(payload, dict):
            payload = payload.get(part, MISSING)
        elif isinstance(payload, list) and part.isdecimal() and int(part) < len(payload):
            payload = payload[int(part)]
        else:
            return MISSING
    return payload


def key_of(values: Sequence[Any]) -> str:
    """A key: the text of its value; of several values, the JSON list of their texts.

    Raises:
        Misfit: a value is missing, null, or no text, number or truth value; or the key is too long.
    """
    texts = [value if type(value) is str else _text(value) for value in values]
    key = texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    if len(key) * 4 > LONGEST and len(key.encode()) > LONGEST:
        raise Misfit(f"is longer than {LONGEST} bytes")
    return key


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is MISSING or value is None:
        raise Misfit("is missing" if value is MISSING else "is null")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return _number(value)
    raise Misfit("is no text, number or truth value")


def _number(value: float | Decimal) -> str:
    """The same text for 7, 7.0 and 7.00."""
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        raise Misfit("is no finite number")
    if exact == exact.to_integral_value():
        return str(int(exact))
    return format(exact.normalize(_EXACT), "f")


def number_of(value: Any) -> Decimal:
    """A number, exactly. A text that is one counts as one: Debezium and others write decimals so.

    Raises:
        Misfit: it is none.
    """
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str):
        try:
            exact = Decimal(value.strip())
        except ArithmeticError:
            raise Misfit("is no number") from None
        if _is_small(exact):
            return exact
    raise Misfit("is missing" if value is MISSING else "is null" if value is None else "is no number")


def moment_of(value: Any, path: str) -> datetime:
    """A time: ISO 8601 with a time zone, or milliseconds since 1970. In UTC.

    Raises:
        ValueError: it is none.
    """
    if value is MISSING or value is None:
        raise ValueError(f'its time, "{path}", is missing')
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            if at.tzinfo is not None:
                return at.astimezone(UTC)
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return _EPOCH + timedelta(microseconds=int(value * 1000))
    except (OverflowError, ValueError):
        pass
    raise ValueError(f'its time, "{path}", is neither ISO 8601 with a time zone nor milliseconds since 1970')


def canonical(value: Any) -> str:
    """The JSON text of a value, the same for equal values."""
    if type(value) is str:
        return _encode(value)
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key, ensure_ascii=False)}:{canonical(value[key])}" for key in sorted(value))
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _number(value)
    return json.dumps(value, ensure_ascii=False)


def loads(text: str) -> Any:
    """Read JSON that PostgreSQL can hold, with exact numbers.

    Raises:
        ValueError: it is none. The message says what is wrong, and quotes nothing of it.
    """
    if "\\u" in text and _has_unstorable(text):
        raise ValueError("a text in it has the character U+0000 or half a surrogate pair, which no database holds")
    try:
        return json.loads(text, parse_float=_float, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _has_unstorable(text: str) -> bool:
    """Whether escapes in it are for what is no character. Doubled backslashes escape nothing."""
    plain = text.replace("\\\\", "")
    if "\\u0000" in plain:
        return True
    if "\\ud" not in plain and "\\uD" not in plain:
        return False
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False  # not JSON at all: said by whoever reads it
    return False


def _float(text: str) -> Decimal:
    exact = Decimal(text)
    if not _is_small(exact):
        raise ValueError(f"a number in it has more than {_DIGITS} digits")
    return exact


def _is_small(exact: Decimal) -> bool:
    exponent = exact.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -_DIGITS and (not exact or exact.adjusted() <= _DIGITS)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
