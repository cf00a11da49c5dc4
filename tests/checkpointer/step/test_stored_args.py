"""Arguments come back from storage as what they were."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import asyncpg
import numpy as np
import pytest
from asyncpg.pgproto.types import BitString, Box, Circle, Line, LineSegment, Path, Point, Polygon
from hypothesis import given
from hypothesis import strategies as st
from pgvector import Bit, HalfVector, SparseVector, Vector

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.step.read_set import Effect, Read, Staged
from superstep.checkpointer.step.stored_args import _TAG, copied
from superstep.checkpointer.step.value_bytes import value_bytes
from superstep.runtime.faults import StepConflict
from tests.support.graphs import fan
from tests.support.race import Race
from tests.support.values import SERDE

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

ARGS: list[Any] = [
    *(
        None,
        1,
        2**63 - 1,
        2**63,
        -(2**70),
        1.5,
        "x",
        b"x",
        [1, 2],
        (1, 2),
        [(1, 2)],
        ([1], (2,)),
        {"a": (1,)},
        {1: [2]},
    ),
    *({_TAG: ["int", "0x1"]}, {_TAG: ["nothing"]}, [{_TAG: (1,)}]),
    *(
        asyncpg.Range(1, 2),
        asyncpg.Range(None, 2, upper_inc=True),
        asyncpg.Range(empty=True),
        [asyncpg.Range("a", "b")],
    ),
    *(BitString("1"), BitString("101"), BitString("1" * 17), Point(1.0, 2.0), Box((1.0, 1.0), (0.0, 0.0))),
    *(Line(1.0, 2.0, 3.0), LineSegment((0.0, 0.0), (1.0, 1.0)), Circle((1.0, 2.0), 3.0)),
    *(Path((0.0, 0.0), (1.0, 1.0)), Path((0.0, 0.0), is_closed=True), Polygon((0.0, 0.0), (1.0, 1.0))),
    *(Vector([1, 2]), HalfVector([1, 2]), SparseVector({1: 2.0}, 9), Bit("101"), np.arange(3.0), uuid.UUID(int=7)),
    asyncpg.pgproto.pgproto.UUID(str(uuid.UUID(int=7))),
]


def stored(arg: Any) -> Any:
    effect = Effect("task", "node", [Read("SELECT $1", (arg,), b"")], [Staged("UPDATE x", (arg, arg))])
    loaded = Effect.load("task", SERDE.loads_typed(SERDE.dumps_typed(effect.dump())))
    assert value_bytes(loaded.staged[0].args[1]) == value_bytes(loaded.reads[0].args[0])
    return loaded.reads[0].args[0]


@pytest.mark.parametrize("arg", ARGS, ids=lambda arg: type(arg).__name__)
def test_an_argument_is_the_same_after_it_was_stored(arg: Any) -> None:
    assert value_bytes(stored(arg)) == value_bytes(arg)


@pytest.mark.parametrize("arg", ARGS, ids=lambda arg: type(arg).__name__)
def test_a_copy_is_the_same(arg: Any) -> None:
    assert value_bytes(copied(arg)) == value_bytes(arg)


def test_what_is_done_to_an_argument_later_does_not_reach_its_copy() -> None:
    given: list[Any] = [1, [2], {"a": [3]}, (4, [5]), np.zeros(2)]
    before = value_bytes(given)
    kept = copied(given)
    for inner in (given, given[1], given[2]["a"], given[3][1]):
        inner.append(9)
    given[4][0] = 9
    assert value_bytes(kept) == before != value_bytes(given)


leaves = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3))
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.sampled_from(["a", _TAG]), inner)
    ),
    max_leaves=6,
)


@given(nested)
def test_so_are_nested_ones(arg: Any) -> None:
    assert value_bytes(stored(arg)) == value_bytes(arg)


@pytest.mark.parametrize(("arg", "plain"), [(np.float32(1.5), 1.5), (np.int64(3), 3), (bytearray(b"x"), b"x")])
def test_some_come_back_as_the_plain_value_that_they_stand_for(arg: Any, plain: Any) -> None:
    assert value_bytes(stored(arg)) == value_bytes(plain)


@pytest.mark.parametrize("hold_idle", [0])
async def test_a_saved_result_is_applied_with_the_arguments_it_was_staged_with(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await bank.do("CREATE TABLE kept (a int4range, b polygon, c vector(2), d bit(3), e numeric)")
    await saver.database.connections.renew()
    race = Race(bank, 1)
    row = "SELECT '[1,5)'::int4range, '((0,0),(1,1))'::polygon, '[1,2]'::vector, B'101', 2::numeric ^ 70"

    async def steady(state: Any) -> Any:
        step = current_step()
        read = await step.fetchrow(row)
        assert read is not None
        assert await step.fetchval("SELECT $1::int4range @> 4", read[0])
        step.stage("INSERT INTO kept VALUES ($1, $2, $3, $4, $5)", *read)
        return {"seen": ["steady"]}

    async def racing(state: Any) -> Any:
        return {"seen": [await race.read()]}

    graph = fan(saver, steady, racing)
    with pytest.raises(StepConflict):
        await graph.ainvoke({"seen": []}, thread)
    await graph.ainvoke(None, thread)
    texts = "SELECT a::text, b::text, c::text, d::text, e"
    assert await bank.do(f"{texts} FROM kept") == await bank.do(f"{texts} FROM ({row}) AS r (a, b, c, d, e)")
