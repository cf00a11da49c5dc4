"""Properties of read sets: digests, and effects in storage."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from superstep.checkpointer.step.read_set import (
    Effect,
    Read,
    Staged,
    digest_rows,
)
from tests.support.values import SERDE, plain

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
