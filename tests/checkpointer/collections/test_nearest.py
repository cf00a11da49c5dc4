"""Nearest rows: as many as match, whatever the index, for a vector in any form that a program has it in."""

from __future__ import annotations

import array
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pgvector import HalfVector, SparseVector, Vector

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.collections.nearest import vector_of
from superstep.runtime.faults import ConfigError, ReadFailed
from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

ROWS = 1500
AT = [0.1] * 8
SETTINGS = ["hnsw.ef_search", "hnsw.iterative_scan", "ivfflat.iterative_scan"]


async def in_step(saver: TransactionalSaver, thread: RunnableConfig, work: Callable[[Any], Awaitable[Any]]) -> None:
    """Do something with the step of a node."""

    async def node(state: Any) -> Any:
        await work(current_step())
        return {"n": 1}

    await chain(saver, node).ainvoke({"n": 0}, thread)


async def make_notes(bank: Bank, column: str, index: str | None) -> None:
    chance = random.Random(1)
    texts = [str([round(chance.gauss(0, 1), 3) or 0.1 for _ in AT]) for _ in range(ROWS)]
    async with bank.saver.transaction() as tx:
        await tx.execute(
            f"CREATE TABLE note (id int PRIMARY KEY, content text, metadata jsonb, tenant int, embedding {column}(8))"
        )
        await tx.execute(
            f"INSERT INTO note SELECT n, '', '{{}}', n % 50, e::vector::{column} "
            "FROM unnest($1::text[]) WITH ORDINALITY AS u (e, n)",
            texts,
        )
        if index is not None:
            await tx.execute(f"CREATE INDEX ON note USING {index} (embedding {column}_cosine_ops)")
    await bank.saver.database.connections.renew()


@pytest.mark.parametrize("looked_at", [None, 1])
@pytest.mark.parametrize(
    ("column", "index"),
    [
        ("vector", None),
        ("vector", "hnsw"),
        ("vector", "ivfflat"),
        ("halfvec", "hnsw"),
        ("halfvec", "ivfflat"),
        ("sparsevec", "hnsw"),
    ],
)
async def test_there_are_as_many_rows_as_match(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, column: str, index: str | None, looked_at: int | None
) -> None:
    await make_notes(bank, column, index)
    if looked_at is not None:  # an index that gives up, as those of versions without iterative scans do
        await bank.do("SELECT '[1]'::vector")
        name = (await bank.do("SELECT quote_ident(current_database()) AS name"))[0]["name"]
        for setting in ("hnsw.max_scan_tuples", "ivfflat.max_probes"):
            await bank.do(f"ALTER DATABASE {name} SET {setting} = {looked_at}")
        await saver.database.connections.renew()

    async def look(step: Any) -> None:
        async def settings() -> list[Any]:
            return [await step.fetchval("SELECT current_setting($1, true)", name) for name in SETTINGS]

        await step.fetch("SELECT 1 FROM note ORDER BY embedding <=> $1::text::vector LIMIT 1", str(AT))
        before = await settings()
        for k in (1, 39, 41, 400, 1200, 2000):
            for where, args, match in [
                (None, [], ROWS),
                ("tenant = $1", [7], 30),
                ("tenant = $1 -- and no more", [7], 30),
                ("tenant = $1 AND note.id > $2", [7, ROWS], 0),
            ]:
                rows = await step.nearest("note", embedding=AT, k=k, where=where, args=args)
                assert len(rows) == min(k, match)
                assert len({row["id"] for row in rows}) == len(rows)
                assert rows == sorted(rows, key=lambda row: (row["distance"], row["id"]))
        assert await settings() == before  # for the other reads of the transaction

    await in_step(saver, thread, look)


async def test_without_an_index_they_are_the_nearest_ones_and_ties_go_by_id(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await make_notes(bank, "vector", None)
    await bank.do("UPDATE note SET embedding = '[1,1,1,1,1,1,1,1]' WHERE id IN (5, 50, 500)")

    async def look(step: Any) -> None:
        truth = await bank.do("SELECT id FROM note ORDER BY embedding <=> $1::text::vector, id LIMIT 20", str(AT))
        rows = await step.nearest("note", embedding=AT, k=20)
        assert [row["id"] for row in rows] == [row["id"] for row in truth]
        assert [row["id"] for row in rows[:3]] == [5, 50, 500]

    await in_step(saver, thread, look)


@pytest.mark.parametrize("index", [None, "hnsw", "ivfflat"])
async def test_rows_without_a_direction_are_no_neighbours(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, index: str | None
) -> None:
    async with bank.saver.transaction() as tx:
        await tx.execute(
            "CREATE TABLE page (id int, content text, metadata jsonb, embedding vector(2));"
            "INSERT INTO page VALUES (1, '', '{}', '[1,0]'), (2, '', '{}', NULL), (3, '', '{}', '[0,0]');"
            "INSERT INTO page VALUES (4, '', '{}', '[-1,0]')"
        )
        if index is not None:
            await tx.execute(f"CREATE INDEX ON page USING {index} (embedding vector_cosine_ops)")

    async def look(step: Any) -> None:
        rows = await step.nearest("page", embedding=[1.0, 0.0], k=3)
        assert [(row["id"], row["distance"]) for row in rows] == [(1, 0.0), (4, 2.0)]
        assert await step.nearest("page", embedding=[0.0, 0.0], k=3) == []  # nothing is near to no direction

    await in_step(saver, thread, look)


@pytest.mark.parametrize("column", ["vector(2)", "vector", "halfvec(2)", "sparsevec(2)"])
async def test_a_wrong_dimension_is_called_that(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, column: str
) -> None:
    await bank.do(f"CREATE TABLE page (id int, content text, metadata jsonb, embedding {column})")
    await bank.do(f"INSERT INTO page VALUES (1, '', '{{}}', '[1,0]'::vector::{column})")

    async def look(step: Any) -> None:
        with pytest.raises(ReadFailed, match=r"has 3 dimensions, and column embedding is " + column.split("(")[0]) as e:
            await step.nearest("public.page", embedding=[1.0, 0.0, 0.0], k=1)
        assert e.value.sqlstate == "22000"
        assert "nearest:" not in str(e.value)  # the statement is nothing the caller wrote
        assert len(await step.nearest("public.page", embedding=[1.0, 0.0], k=1)) == 1

    await in_step(saver, thread, look)


async def test_the_parts_of_the_statement_are_nobodys_tables(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    for name in ("found", "query", "page"):
        await bank.do(f"CREATE TABLE {name} (id int, content text, metadata jsonb, embedding vector(2))")
        await bank.do(f"INSERT INTO {name} VALUES (1, '{name}', '{{}}', '[1,0]')")

    async def look(step: Any) -> None:
        where = "id IN (SELECT id FROM found) AND page.id IN (SELECT id FROM query)"
        assert [r["content"] for r in await step.nearest("page", embedding=[1, 0], k=1, where=where)] == ["page"]
        assert [r["content"] for r in await step.nearest("found", embedding=[1, 0], k=1)] == ["found"]

    await in_step(saver, thread, look)


FORMS = [
    [1, 2.5, 0],
    (1.0, 2.5, 0.0),
    [Decimal(1), np.float32(2.5), np.int64(0)],
    array.array("f", [1, 2.5, 0]),
    np.array([1, 2.5, 0]),
    np.array([1, 2.5, 0], np.float16),
    Vector([1, 2.5, 0]),
    HalfVector([1, 2.5, 0]),
    SparseVector([1, 2.5, 0]),
    "[1,2.5,0]",
    "{1:1,2:2.5}/3",
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
async def test_a_vector_may_have_any_of_its_forms(form: Any) -> None:
    assert vector_of("page", form) == [1.0, 2.5, 0.0]


@pytest.mark.parametrize("column", ["vector", "halfvec", "sparsevec"])
@pytest.mark.parametrize("registered", [True, False])
async def test_what_one_read_returns_the_next_one_takes(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, column: str, registered: bool
) -> None:
    await make_notes(bank, column, None)
    if not registered:
        await bank.do("DROP EXTENSION vector CASCADE")
        await saver.database.connections.renew()
        async with saver.database.connections.borrow():
            pass  # from now on there is a connection, made before there was anything to register
        await bank.do("CREATE EXTENSION vector")
        await bank.do("DROP TABLE note")
        await make_notes_again(bank, column)

    async def look(step: Any) -> None:
        embedding = await step.fetchval("SELECT embedding FROM note WHERE id = 7")
        assert isinstance(embedding, str) is not registered
        assert [row["id"] for row in await step.nearest("note", embedding=embedding, k=1)] == [7]

    await in_step(saver, thread, look)


async def make_notes_again(bank: Bank, column: str) -> None:
    """On the connections there are, which know no type of pgvector."""
    await bank.do(f"CREATE TABLE note (id int, content text, metadata jsonb, embedding {column}(8))")
    for i in (6, 7, 8):
        vector = str([1.0] * i + [0.0] * (8 - i))
        await bank.do(f"INSERT INTO note SELECT {i}, '', '{{}}', $1::text::vector::{column}", vector)


@pytest.mark.parametrize(
    "form",
    [[], [1, "x"], [[1, 2], [3, 4]], np.zeros((2, 2)), [1.0, float("nan")], [float("inf")], "abc", "{}", "{0:1", 7],
)
async def test_what_is_no_vector_is_refused(form: Any) -> None:
    with pytest.raises(ConfigError, match=r"nearest\('page'\): the embedding"):
        vector_of("page", form)
