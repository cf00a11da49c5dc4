"""Bytes to events: JSON Lines and Debezium's envelope."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.checkpointer.derived.decoding import decoded
from superstep.checkpointer.derived.records import Event, Format, Refusal

LINES = Format()
ENVELOPE = Format("debezium")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOURCE = {"connector": "postgresql", "schema": "public", "table": "payment", "lsn": 24023128, "txId": 555}


def line(**more: Any) -> bytes:
    return json.dumps({"type": "pay", "at": AT.isoformat(), **more}).encode()


def envelope(op: str = "c", **more: Any) -> dict[str, Any]:
    source = {**SOURCE, "ts_ms": int(AT.timestamp() * 1000), **more.pop("source", {})}
    rows = {"before": None, "after": {"id": 1, "amount": "2.50"}, **more}
    return {**rows, "source": source, "op": op, "ts_ms": 1767323046000, "transaction": None}


def event(body: bytes, form: Format = LINES) -> Event:
    found = decoded(body, form)
    assert isinstance(found, Event), found
    return found


def test_a_line() -> None:
    found = event(line(card="A", amount=1.10))
    assert (found.type, found.at) == ("pay", AT)
    assert found.payload["amount"] == Decimal("1.10")
    assert event(b'{"type": "x", "at": 1767323045000}').at == AT
    assert event(b'{"type": "x", "at": "2026-01-02T05:04:05+02:00"}').at == AT


def test_type_time_and_id_may_be_elsewhere() -> None:
    form = Format("jsonl", "meta.kind", "meta.when", "meta.id")
    body = json.dumps({"meta": {"kind": "k", "when": AT.isoformat(), "id": 7}}).encode()
    found = event(body, form)
    assert (found.type, found.at, found.id) == ("k", AT, "7")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b"[1]", "no JSON object"),
        (b'{"at": 1}', '"type", is missing'),
        (b'{"type": 1, "at": 1}', "no text"),
        (b'{"type": "x"}', '"at", is missing'),
        (b'{"type": "x", "at": "yesterday"}', "ISO 8601"),
        (b'{"type": "x", "at": "2026-01-02T03:04:05"}', "time zone"),
        (b'{"type": "x", "at": 1e300}', "ISO 8601"),
        (b'{"type": "x", "at": true}', "ISO 8601"),
    ],
)
def test_what_is_no_event_says_why_and_quotes_nothing(body: bytes, why: str) -> None:
    found = decoded(body, LINES)
    assert isinstance(found, Refusal)
    assert found.reason == "malformed"
    assert why in found.why
    assert "yesterday" not in found.why


@pytest.mark.parametrize("body", [b"", b"  \r"])
def test_blank_lines_are_nothing(body: bytes) -> None:
    assert decoded(body, LINES) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_an_event_or_a_refusal_or_nothing(body: bytes) -> None:
    for form in (LINES, ENVELOPE):
        assert isinstance(decoded(body, form), Event | Refusal | None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(st.sampled_from(["payload", "op", "source", "after", "ts_ms", "x"]), inner),
    )
)
def test_any_json_is_an_event_or_a_refusal_or_nothing(value: Any) -> None:
    assert isinstance(decoded(json.dumps(value).encode(), ENVELOPE), Event | Refusal | None)


# -- Debezium


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_change_with_and_without_its_schema(wrapped: bool) -> None:
    payload = envelope()
    fields = [{"field": "id", "type": "int32"}, {"field": "amount", "type": "bytes", "name": "Decimal"}]
    schema = {"type": "struct", "fields": [{"field": "after", "fields": fields}, {"field": "op", "type": "string"}]}
    body = json.dumps({"schema": schema, "payload": payload} if wrapped else payload).encode()
    found = event(body, ENVELOPE)
    assert (found.type, found.at) == ("public.payment", AT)
    assert json.loads(found.text) == payload
    assert found.payload["after"] == {"id": 1, "amount": "2.50"}
    assert found.columns == (("amount:Decimal", "id:int32") if wrapped else ("amount", "id"))


def test_the_same_change_has_one_id_and_others_another() -> None:
    ids = [
        event(json.dumps(each).encode(), ENVELOPE).id
        for each in (
            envelope(),
            {**envelope(), "ts_ms": 1},  # seen again later
            envelope(after={"id": 2, "amount": "2.50"}),  # another row of one record in the log
            envelope(source={"lsn": 24023129}),
            envelope("u", before={"id": 1}),
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert event(json.dumps(envelope("r")).encode(), ENVELOPE).id is None
    mysql = envelope(source={"lsn": None, "schema": None, "db": "shop", "file": "bin.1", "pos": 4, "row": 0})
    assert event(json.dumps(mysql).encode(), ENVELOPE).id is not None
    assert event(json.dumps(mysql).encode(), ENVELOPE).type == "shop.payment"


def test_a_delete_has_the_row_before_it() -> None:
    found = event(json.dumps(envelope("d", before={"id": 1, "amount": "1"}, after=None)).encode(), ENVELOPE)
    assert found.payload["before"]["id"] == 1
    assert found.columns is None


@pytest.mark.parametrize(
    "body",
    [
        "null",  # a tombstone
        '{"schema": null, "payload": null}',
        '{"ts_ms": 1767323046000}',  # a heartbeat
        '{"status": "BEGIN", "id": "1", "ts_ms": 1}',
        json.dumps(envelope("t", after=None)),
        json.dumps({**envelope("m"), "message": {}}),
    ],
)
def test_what_is_no_change_of_a_row_is_nothing(body: str) -> None:
    assert decoded(body.encode(), ENVELOPE) is None


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"a": 1}, "op"),
        ({**envelope(), "source": {}}, "table"),
        ({**envelope(), "after": None}, "after"),
        (envelope("d", before=None), "before"),
        ({"payload": 1}, "payload"),
    ],
)
def test_what_is_no_envelope_is_malformed(wrong: Any, why: str) -> None:
    found = decoded(json.dumps(wrong).encode(), ENVELOPE)
    assert isinstance(found, Refusal)
    assert why in found.why
