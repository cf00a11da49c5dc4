"""From bytes to events. Pure: the same bytes give the same event, whenever and wherever they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.derived.debezium import change
from superstep.checkpointer.derived.paths import MISSING, Misfit, at_path, key_of, loads, moment_of, parts_of
from superstep.checkpointer.derived.records import Event, Refusal

if TYPE_CHECKING:
    from superstep.checkpointer.derived.records import Format

__all__ = ["decoded", "type_of"]

_LONGEST_TYPE = 200


def decoded(body: bytes, form: Format) -> Event | Refusal | None:
    """What a record says; `None` if there is nothing in it (a blank line, a tombstone, a heartbeat)."""
    try:
        text = body.decode()
        if not text.strip():
            return None
        if form.kind == "debezium":
            return change(text)
        return _json_line(text, form)
    except UnicodeDecodeError as error:
        return Refusal("malformed", f"It is not UTF-8: byte {error.start} is part of no character.")
    except ValueError as error:
        return Refusal("malformed", f"{str(error)[:1].upper()}{str(error)[1:]}.")


def _json_line(text: str, form: Format) -> Event:
    payload = loads(text)
    if not isinstance(payload, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - what is wrong is the value
    kind = type_of(at_path(payload, parts_of(form.type)), form.type)
    at = moment_of(at_path(payload, parts_of(form.at)), form.at)
    own = None
    if form.id is not None:
        try:
            own = key_of([at_path(payload, parts_of(form.id))])
        except Misfit as error:
            raise ValueError(f'its id, "{form.id}", {error}') from None
    return Event(kind, at, payload, text, own)


def type_of(value: Any, path: str) -> str:
    """A type of events.

    Raises:
        ValueError: it is none.
    """
    if value is MISSING:
        raise ValueError(f'its type, "{path}", is missing')
    if not isinstance(value, str) or not value or len(value) > _LONGEST_TYPE:
        raise ValueError(f'its type, "{path}", is no text of 1 to {_LONGEST_TYPE} characters')
    return value
