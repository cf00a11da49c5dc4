"""Properties of the pure parts: digests, effects, statement classes, rows, the stream gate."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from superstep.checkpointer.langgraph.codec import WriteRows, checkpoint_row, load_payload, write_rows
from superstep.checkpointer.step.read_set import (
    Effect,
    Read,
    Staged,
    digest_rows,
)
from superstep.checkpointer.step.statements import ends_transaction, is_ordered, reads_only
from superstep.runtime.flow.stream_gate import Gate, Shape

SERDE = JsonPlusSerializer(allowed_msgpack_modules=None)

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=st.just(dt.UTC)),
    st.uuids(),
)
rows = st.lists(st.tuples(values, values), max_size=6)


@given(rows)
def test_equal_rows_have_equal_digests(some: list[tuple[Any, ...]]) -> None:
    assert digest_rows(some, ordered=True) == digest_rows([list(row) for row in some], ordered=True)


@given(rows, st.randoms(use_true_random=False))
def test_order_counts_only_where_sql_promises_one(some: list[tuple[Any, ...]], random: Any) -> None:
    shuffled = random.sample(some, len(some))
    assert digest_rows(some, ordered=False) == digest_rows(shuffled, ordered=False)
    same = [list(map(repr, row)) for row in some] == [list(map(repr, row)) for row in shuffled]
    assert (digest_rows(some, ordered=True) == digest_rows(shuffled, ordered=True)) == same


@given(rows, rows)
def test_different_rows_have_different_digests(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> None:
    same = sorted(map(repr, one)) == sorted(map(repr, other))
    assert (digest_rows(one, ordered=False) == digest_rows(other, ordered=False)) == same


def test_values_of_different_types_are_different_facts() -> None:
    digests = {digest_rows([(v,)], ordered=True) for v in (1, 1.0, "1", True, Decimal(1), Decimal("1.0"), None, b"1")}
    assert len(digests) == 8


plain = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(), st.binary(), st.uuids())


@given(st.lists(st.tuples(st.text(), st.lists(plain), st.binary(min_size=16, max_size=16))), st.booleans())
def test_effects_survive_storage(reads: list[Any], asked: bool) -> None:
    effect = Effect(
        str(uuid.uuid4()),
        "node",
        [Read(sql, tuple(args), digest) for sql, args, digest in reads],
        [Staged(sql, tuple(args), 1) for sql, args, _ in reads],
        "~path",
        asked,
        {"caller": "name"},
    )
    assert Effect.load(effect.task_id, SERDE.loads_typed(SERDE.dumps_typed(effect.dump()))) == effect
    effect.uses = ["plan@2", "verify@3"]
    assert Effect.load(effect.task_id, SERDE.loads_typed(SERDE.dumps_typed(effect.dump()))) == effect


def test_effects_of_the_first_release_can_be_loaded_and_it_can_load_ours() -> None:
    dumped = ["node", [["SELECT $1", [1], b"digest"]], [["UPDATE x", [], 1]], "path", False, {"id": "caller"}]
    effect = Effect.load("task", dumped)
    assert effect == Effect(
        "task",
        "node",
        [Read("SELECT $1", (1,), b"digest")],
        [Staged("UPDATE x", (), 1)],
        "path",
        False,
        {"id": "caller"},
    )
    assert effect.dump() == dumped


@pytest.mark.parametrize(
    ("sql", "read", "control"),
    [
        ("SELECT 1", True, False),
        ("  ( select 1 ) union select 2", True, False),
        ("/* UPDATE */ -- DELETE\n WITH x AS (SELECT 1) SELECT * FROM x", True, False),
        ("VALUES (1)", True, False),
        ("TABLE account", True, False),
        ("UPDATE account SET x = 'select'", False, False),
        ("COMMIT", False, True),
        ("-- hi\nrollback", False, True),
        ("SET search_path = x", False, True),
        ("SELECTED", False, False),
        ("", False, True),
        ("-- nothing", False, True),
        ("; COMMIT", False, True),
    ],
)
def test_statements_are_told_apart_by_their_first_word(sql: str, read: bool, control: bool) -> None:
    assert (reads_only(sql), ends_transaction(sql)) == (read, control)


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("SELECT 1 ORDER BY 1", True),
        ("SELECT 1 order\n by 1", True),
        ("SELECT 'it''s' FROM t ORDER BY 'x'", True),
        ("SELECT border FROM by_t", False),
    ],
)
def test_order_by_is_found(sql: str, ordered: bool) -> None:
    assert is_ordered(sql) is ordered


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "__resume__", "__interrupt__"]), st.integers(0, 99))
    )
)
def test_of_writes_to_one_slot_the_last_counts(written: list[tuple[str, str, int]]) -> None:
    parts = [write_rows(SERDE, [(channel, value)], task, "") for task, channel, value in written]
    merged = WriteRows.merged(parts)
    slots = list(zip(merged.tasks, merged.idx, strict=True))
    assert len(slots) == len(set(slots))
    last = {(part.tasks[0], part.idx[0]): part.values[0] for part in parts}
    assert dict(zip(slots, merged.values, strict=True)) == last


@given(st.dictionaries(st.text(min_size=1), st.one_of(plain, st.lists(plain), st.text(min_size=300)), max_size=6))
def test_a_checkpoint_keeps_small_values_and_refers_to_the_others(channels: dict[str, Any]) -> None:
    versions: dict[str, Any] = {name: f"{n:08x}" for n, name in enumerate(channels)}
    checkpoint: Any = {"v": 1, "id": "i", "ts": "", "channel_values": channels, "channel_versions": versions}
    row = checkpoint_row(SERDE, checkpoint, {}, versions)
    body, inline = load_payload(SERDE, row.kind, row.payload)
    stored = {
        name: SERDE.loads_typed((kind, value))
        for name, kind, value in zip(row.new_channels, row.new_kinds, row.new_values, strict=True)
    }
    assert {**inline, **stored} == channels
    assert not set(inline) & set(stored)
    assert "channel_values" not in body


@given(st.lists(st.sampled_from(["updates", "values", "messages", "commit"]), max_size=30))
def test_the_gate_shows_nothing_early_and_everything_once(events: list[str]) -> None:
    shape = Shape.of(["updates", "values", "messages"], subgraphs=False, version="v1")
    gate = Gate(shape)
    shown: list[Any] = []
    committed: list[Any] = []
    waiting: list[Any] = []
    for number, event in enumerate(events):
        if event == "commit":
            raw: Any = ("checkpoints", {"config": {"configurable": {"checkpoint_id": str(number)}}})
            committed += waiting
            waiting = []
        else:
            raw = (event, {"n": number})
            if event == "messages":
                committed.append(raw)
            else:
                waiting.append(raw)
        shown += list(gate.push(shape.read(raw)))
        assert sorted(shown, key=lambda c: c[1]["n"]) == sorted(committed, key=lambda c: c[1]["n"])
    assert list(gate.finish()) == []
