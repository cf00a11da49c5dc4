"""Debezium's change events as Kafka Connect's JSON converter writes them. Pure.

    {"schema": …, "payload": {"before": …, "after": …, "op": "c", "source": {"lsn": 1, "ts_ms": 2, …}, "ts_ms": 3}}

or the payload alone. The type of the event is the table, `schema.table`; its payload the whole envelope, so paths are
`after.amount`, `before.id`, `op`. Its time is `source.ts_ms`, when the change was committed; the envelope's own is when
Debezium saw it, and is taken where the other is missing.

Kafka delivers at least once, so a change may come again under another offset. Its place in the log of its database and
its row say that it is the same one. Rows of a snapshot (`op` r) have no place of their own there, and no id.

See https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.derived.paths import MISSING, at_path, canonical, loads, moment_of
from superstep.checkpointer.derived.records import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["change"]

_ROWS = frozenset("crud")  # created, read by a snapshot, updated, deleted


def change(text: str) -> Event | None:
    """The event of an envelope; `None` for what is no change of a row: tombstones, heartbeats, transaction marks.

    Raises:
        ValueError: it is no envelope.
    """
    document = loads(text)
    if document is None:
        return None
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - what is wrong is the value
    wrapped = "payload" in document and "op" not in document
    payload = document["payload"] if wrapped else document
    if payload is None:
        return None
    if not isinstance(payload, dict):
        raise ValueError("its payload is no JSON object")  # noqa: TRY004 - what is wrong is the value
    if "op" not in payload:
        if "source" not in payload and ("ts_ms" in payload or "status" in payload):
            return None  # a heartbeat, or the begin or end of a transaction
        raise ValueError('it has no "op", so it is no envelope of Debezium')
    if not isinstance(payload["op"], str):
        raise ValueError('its "op" is no text')  # noqa: TRY004 - what is wrong is the value
    if payload["op"] not in _ROWS:
        return None  # truncate, or a message of the application
    return _of_row(text, document, payload, wrapped=wrapped)


def _of_row(text: str, document: Mapping[str, Any], payload: Mapping[str, Any], *, wrapped: bool) -> Event:
    source = payload.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("table"), str) or not source["table"]:
        raise ValueError('its "source" does not name a table')
    before, after = payload.get("before"), payload.get("after")
    if not isinstance(after if payload["op"] != "d" else before, dict):
        side = "before" if payload["op"] == "d" else "after"
        raise ValueError(f'it has no row in "{side}"')  # noqa: TRY004 - what is wrong is the value
    over = next((name for name in (source.get("schema"), source.get("db")) if isinstance(name, str) and name), None)
    relation = f"{over}.{source['table']}" if over else source["table"]
    at = source.get("ts_ms")
    own = payload.get("ts_ms", MISSING)
    when = moment_of(at, "source.ts_ms") if isinstance(at, int) and at > 0 else moment_of(own, "ts_ms")
    columns = tuple(sorted(_columns(document, after, wrapped=wrapped))) if isinstance(after, dict) else None
    own_text = canonical(payload) if wrapped else text
    return Event(relation, when, payload, own_text, _id(relation, payload, source), relation, columns)


def _columns(document: Mapping[str, Any], after: Mapping[str, Any], *, wrapped: bool) -> list[str]:
    """The columns of a row, with their types where the schema came along."""
    if wrapped:
        fields = at_path(document, ("schema", "fields"))
        for field in fields if isinstance(fields, list) else ():
            if isinstance(field, dict) and field.get("field") == "after" and isinstance(field.get("fields"), list):
                named = [each for each in field["fields"] if isinstance(each, dict) and "field" in each]
                return [f"{each['field']}:{each.get('name') or each.get('type')}" for each in named]
    return list(after)


def _id(relation: str, payload: Mapping[str, Any], source: Mapping[str, Any]) -> str | None:
    """What tells a change from every other of its database; `None` if nothing does."""
    if payload["op"] == "r":
        return None
    if isinstance(source.get("lsn"), int):
        place = f"{source['lsn']}"
    elif isinstance(source.get("file"), str) and isinstance(source.get("pos"), int):
        place = f"{source['file']}:{source['pos']}:{source.get('row')}"
    else:
        return None
    row = canonical([payload.get("before"), payload.get("after")])  # one record of the log may have many rows
    return f"{place}:{payload['op']}:{relation}:{blake2b(row.encode(), digest_size=16).hexdigest()}"
