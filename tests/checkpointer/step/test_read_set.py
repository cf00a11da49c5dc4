"""Properties of read sets: digests, and effects in storage."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
from asyncpg.pgproto.types import Path
from hypothesis import given
from hypothesis import strategies as st

from superstep.checkpointer.step.old_digests import LENGTH, digest_of_0_1_0
from superstep.checkpointer.step.read_set import (
    Effect,
    Read,
    Staged,
    differ_in_order,
    digest_rejection,
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
    assert digest_rows(some) == digest_rows([list(row) for row in some])


@given(rows, st.randoms(use_true_random=False))
def test_another_order_is_another_digest_and_known_to_be_only_that(some: list[tuple[Any, ...]], random: Any) -> None:
    shuffled = random.sample(some, len(some))
    same = [list(map(repr, row)) for row in some] == [list(map(repr, row)) for row in shuffled]
    assert (digest_rows(some) == digest_rows(shuffled)) == same
    assert differ_in_order(digest_rows(some), digest_rows(shuffled)) == (not same)


@given(rows, rows)
def test_different_rows_have_different_digests(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> None:
    same = sorted(map(repr, one)) == sorted(map(repr, other))
    equal = digest_rows(one) == digest_rows(other)
    assert (equal or differ_in_order(digest_rows(one), digest_rows(other))) == same


def test_values_of_different_types_are_different_facts() -> None:
    digests = {digest_rows([(v,)]) for v in (1, 1.0, "1", True, Decimal(1), Decimal("1.0"), None, b"1")}
    assert len(digests) == 8


def test_a_rejection_is_neither_rows_nor_another_rejection() -> None:
    digests = {digest_rejection("22012", ""), digest_rejection("22P02", ""), digest_rejection("22012", "x")}
    digests |= {digest_rows([]), digest_rows([("22012", "")])}
    assert len(digests) == 5
    assert not differ_in_order(digest_rejection("22012", ""), digest_rejection("22P02", ""))


@given(rows)
def test_a_digest_of_the_first_release_equals_none_of_todays(some: list[tuple[Any, ...]]) -> None:
    theirs = digest_of_0_1_0("SELECT 1", some)
    assert theirs is not None
    assert len(theirs) == LENGTH
    assert digest_rows(some) != theirs
    assert not differ_in_order(digest_rows(some), theirs)
    assert not differ_in_order(theirs, digest_rows(some))


def test_a_digest_of_the_first_release_says_nothing_where_its_reprs_did_not() -> None:
    for value in (Path((0, 0), (1, 1)), np.zeros(2000), [np.zeros(2)], Colour.RED, Opaque()):
        assert digest_of_0_1_0("SELECT 1", [(1, value)]) is None


class Colour(enum.IntEnum):
    RED = 1


class Opaque:
    """No rule covers it."""


def test_reads_share_a_key_only_if_they_ask_the_same() -> None:
    vectors = np.zeros((2, 2000))
    vectors[0, 700] = vectors[1, 900] = 1  # the repr of both is the same
    assert Read("SELECT $1", (vectors[0],), b"").key != Read("SELECT $1", (vectors[1],), b"").key
    assert Read("SELECT $1", (vectors[0],), b"").key == Read("SELECT $1", (vectors[0].copy(),), b"").key
    opaque = Opaque()
    one, other = Read("SELECT $1", (opaque,), b""), Read("SELECT $1", (opaque,), b"")
    assert one.key == one.key != other.key


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
