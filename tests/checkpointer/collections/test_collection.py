"""Collections: made once, filled and searched inside and outside of super-steps, refused by name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.collections.definition import Definition
from superstep.checkpointer.collections.documents import Document
from superstep.checkpointer.collections.known import KnownCollections
from superstep.checkpointer.step.nearest import Nearest
from superstep.runtime.faults import (
    CollectionMismatch,
    CollectionNotFound,
    ConfigError,
    DocumentInvalid,
    VectorInvalid,
)
from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer.collections.collection import Collection
    from tests.support.bank import Bank


async def in_step(saver: TransactionalSaver, thread: RunnableConfig, work: Callable[[Any], Awaitable[Any]]) -> None:
    """Do something with the step of a node."""

    async def node(state: Any) -> Any:
        await work(current_step())
        return {"n": 1}

    await chain(saver, node).ainvoke({"n": 0}, thread)


def at(*embedding: float, id: str, **more: Any) -> Document:  # noqa: A002
    return Document(f"text {id}", id=id, embedding=list(embedding), **more)


@pytest.fixture
async def policy(saver: TransactionalSaver) -> Collection:
    policy = await saver.acollection("policy", dimensions=2)
    await policy.add([at(1, 0, id="east"), at(0, 1, id="north"), at(-1, 0, id="west"), at(1, 1, id="between")])
    return policy


async def test_making_is_idempotent_and_may_happen_many_times_at_once(database_url: str) -> None:
    async with (
        TransactionalSaver.from_conn_string(database_url) as one,
        TransactionalSaver.from_conn_string(database_url) as other,
    ):
        made = await asyncio.gather(*(saver.acollection("policy", dimensions=3) for saver in [one, other] * 4))
        assert len({each.definition for each in made}) == 1
        assert [each["name"] for each in await other.collections.all()] == ["policy"]


@pytest.mark.parametrize(
    "more",
    [{"dimensions": 3}, {"dimensions": 2, "precision": "half"}, {"dimensions": 2, "metadata_schema": {"a": "str"}}],
)
async def test_another_one_of_the_name_is_refused(
    saver: TransactionalSaver, policy: Collection, more: dict[str, Any]
) -> None:
    with pytest.raises(CollectionMismatch, match="policy"):
        await saver.acollection("policy", **more)


async def test_what_cannot_be_is_refused(saver: TransactionalSaver) -> None:
    for name, more in [
        ("a.b", {"dimensions": 2}),
        ("", {"dimensions": 2}),
        ("policy", {"dimensions": 0}),
        ("policy", {"dimensions": 2, "precision": "double"}),
        ("policy", {"dimensions": 2, "language": "klingon"}),
        ("policy", {"dimensions": 2, "language": "x'); DROP TABLE account"}),
        ("policy", {"dimensions": 2, "metadata_schema": {"a": "date"}}),
    ]:
        with pytest.raises(ConfigError):
            await saver.acollection(name, **more)
    assert await saver.collections.all() == []


async def test_a_collection_does_not_hide_a_table_that_a_search_would_find(
    saver: TransactionalSaver, bank: Bank
) -> None:
    await bank.do("CREATE TABLE note (id int, content text, metadata jsonb, embedding vector(2))")
    with pytest.raises(CollectionMismatch, match="is a table"):
        await saver.acollection("note", dimensions=2)
    await saver.acollection("account", dimensions=2)  # a table without embeddings is none


@pytest.mark.parametrize("precision", ["full", "half"])
async def test_what_was_added_is_found_in_steps_and_outside(
    saver: TransactionalSaver, thread: RunnableConfig, precision: Any
) -> None:
    notes = await saver.acollection("Übersicht-1", dimensions=2, precision=precision)
    ids = await notes.add(
        [at(1, 0, id="a", metadata={"n": 1}), at(0, 1, id="b"), {"content": "c", "embedding": [1, 1]}]
    )
    assert ids[:2] == ["a", "b"]
    outside = await notes.search(embedding=[1.0, 0.1], k=2)
    assert [row["id"] for row in outside] == ["a", ids[2]]

    async def look(step: Any) -> None:
        inside = await step.nearest("Übersicht-1", embedding=[1.0, 0.1], k=2)
        assert inside == outside
        assert list(inside[0].keys()) == ["id", "content", "metadata", "distance"]
        assert inside[0]["metadata"] == '{"n": 1}'
        assert await notes.search(embedding=[1.0, 0.1], k=2) == inside
        assert [row["id"] for row in await notes.get(["b", "a", "none"])] == ["a", "b"]
        assert await notes.count() == 3
        where = 'metadata @> $1::jsonb AND "Übersicht-1".id <> $2'
        found = await step.nearest("Übersicht-1", embedding=[1.0, 0.0], k=9, where=where, args=['{"n": 1}', "b"])
        assert [row["id"] for row in found] == ["a"]

    await in_step(saver, thread, look)


async def test_the_same_id_is_replaced_and_the_last_one_counts(policy: Collection) -> None:
    await policy.add([at(1, 0, id="east", metadata={"n": 1}), at(0, -1, id="east", metadata={"n": 2})])
    assert await policy.count() == 4
    (row,) = await policy.search(embedding=[0.0, -1.0], k=1)
    assert (row["id"], row["metadata"], row["distance"]) == ("east", '{"n": 2}', 0.0)


async def test_what_a_step_adds_and_deletes_is_there_when_it_commits(
    saver: TransactionalSaver, policy: Collection, thread: RunnableConfig
) -> None:
    async def change(step: Any) -> None:
        await policy.add([at(0, -1, id="south")])
        await policy.delete(["north"])
        assert await policy.count() == 4  # staged: not even the step sees it

    await in_step(saver, thread, change)
    assert [row["id"] for row in await policy.get(["north", "south"])] == ["south"]


async def test_a_step_that_fails_has_added_nothing(
    saver: TransactionalSaver, policy: Collection, thread: RunnableConfig
) -> None:
    async def change(step: Any) -> None:
        await policy.add([at(0, -1, id="south")])
        raise KeyError

    with pytest.raises(KeyError):
        await in_step(saver, thread, change)
    assert await policy.count() == 4


@pytest.mark.parametrize(
    ("precision", "vector", "why"),
    [
        ("full", [1.0], "1 dimensions"),
        ("full", None, "zero"),
        ("full", [0.0, 0.0], "zero"),
        ("full", [1e-60, 0.0], "zero"),
        ("full", [float("nan"), 1.0], "finite"),
        ("full", [1e39, 1.0], "beyond"),
        ("half", [1e-9, 0.0], "zero"),
        ("half", [70000.0, 0.0], "beyond"),
        ("full", "no vector", "finite"),
    ],
)
async def test_a_vector_that_cannot_be_is_refused_by_name(
    saver: TransactionalSaver, thread: RunnableConfig, precision: Any, vector: Any, why: str
) -> None:
    async def blank(texts: list[str]) -> list[list[float]]:
        return [[0.0, 0.0] for _ in texts]

    saver.embedder.own = blank
    notes = await saver.acollection("note", dimensions=2, precision=precision)
    with pytest.raises(VectorInvalid, match=why):
        await notes.add([at(1, 0, id="a"), Document("b", embedding=vector)])
    assert await notes.count() == 0
    query: dict[str, Any] = {"text": "b"} if vector is None else {"embedding": vector}
    with pytest.raises(VectorInvalid, match=why):
        await notes.search(**query)

    async def look(step: Any) -> None:
        with pytest.raises(VectorInvalid, match=why):
            await step.nearest("note", k=1, **query)

    await in_step(saver, thread, look)


async def test_the_table_refuses_vectors_without_a_direction_whoever_writes_them(
    saver: TransactionalSaver, bank: Bank, policy: Collection
) -> None:
    for value, error in [("'[0,0]'", asyncpg.CheckViolationError), ("NULL", asyncpg.NotNullViolationError)]:
        with pytest.raises(error):
            await bank.do(f"UPDATE {policy.table} SET embedding = {value} WHERE id = 'east'")


async def test_metadata_fit_the_schema(saver: TransactionalSaver) -> None:
    keys = {"tenant": "str", "year": "int?", "tags": "list[str]?"}
    notes = await saver.acollection("note", dimensions=2, metadata_schema=keys)
    await notes.add([at(1, 0, id="a", metadata={"tenant": "x", "year": 2024, "tags": ["u"]})])
    for metadata, why in [
        ({}, "tenant is missing"),
        ({"tenant": 1}, "tenant is int, not str"),
        ({"tenant": "x", "year": True}, "year is bool"),
        ({"tenant": "x", "yaer": 1}, "yaer is not one"),
        ({"tenant": "x\0"}, "character of number 0"),
    ]:
        with pytest.raises(DocumentInvalid, match=why):
            await notes.add([at(1, 0, id="b", metadata=metadata)])
    with pytest.raises(DocumentInvalid, match="yaer"):
        await notes.search(embedding=[1, 0], filter={"yaer": 2024})
    assert await notes.count() == 1


async def test_a_search_of_what_is_not_there_is_a_fact(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    runs: list[str] = []

    async def node(state: Any) -> Any:
        try:
            rows = await current_step().nearest("policy", embedding=[1.0, 0.0], k=1)
            runs.append(rows[0]["id"])
        except CollectionNotFound:
            runs.append("none")
            if len(runs) == 1:  # another process makes it, before this step commits
                policy = await saver.collections.create("policy", dimensions=2)
                policy._step = lambda: None
                await policy.add([at(1, 0, id="east")])
        return {"n": 1}

    from superstep.runtime.flow.transactional import transactional

    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert runs == ["none", "east"]


async def test_dropped_and_made_anew_by_another_process(
    saver: TransactionalSaver, database_url: str, policy: Collection, new_thread: Callable[[], RunnableConfig]
) -> None:
    async with TransactionalSaver.from_conn_string(database_url) as other:
        assert await other.collections.drop("policy")
        assert not await other.collections.drop("policy")

        async def missing(step: Any) -> None:
            with pytest.raises(CollectionNotFound):
                await step.nearest("policy", embedding=[1.0, 0.0], k=1)

        await in_step(saver, new_thread(), missing)
        for work in (policy.add([at(1, 0, id="a")]), policy.count(), policy.search(embedding=[1, 0])):
            with pytest.raises(CollectionNotFound):
                await work
        with pytest.raises(CollectionNotFound):
            await saver.collections.get("policy")
        anew = await other.acollection("policy", dimensions=3)
        await anew.add([at(1, 0, 0, id="anew")])

        async def found(step: Any) -> None:
            rows = await step.nearest("policy", embedding=[1.0, 0.0, 0.0], k=1)
            assert [row["id"] for row in rows] == ["anew"]

        await in_step(saver, new_thread(), found)
        await in_step(saver, new_thread(), found)


async def test_a_table_of_the_users_is_found_as_before(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await bank.do("CREATE TABLE note (id int, content text, metadata jsonb, embedding vector(2))")
    await bank.do("INSERT INTO note VALUES (7, '', '{\"n\": 1}', '[1,0]')")

    async def look(step: Any) -> None:
        for name in ("note", "public.note"):
            (row,) = await step.nearest(name, embedding=[1.0, 0.0], k=1, filter={"n": {"$gte": 1}})
            assert row["id"] == 7
        with pytest.raises(ConfigError, match="is a table"):
            await step.nearest("note", text="words", k=1, hybrid=True)

    await in_step(saver, thread, look)


async def test_a_source_is_replaced_as_a_whole(
    saver: TransactionalSaver, policy: Collection, thread: RunnableConfig
) -> None:
    def pieces(*ids: str) -> list[Document]:
        return [at(1, n, id=id_, source="f", position=n) for n, id_ in enumerate(ids, 1)]

    await policy.add([at(1, 1, id="g1", source="g", position=0)])
    assert await policy.put_source("f", pieces("a", "b", "c")) == (3, 0)
    assert await policy.put_source("f", pieces("c", "d", "a")) == (1, 2)
    assert await policy.sources() == {"f": ["c", "d", "a"], "g": ["g1"]}

    async def change(step: Any) -> None:
        assert await policy.put_source("f", pieces("d")) == (0, 1)
        assert await policy.sources() == {"f": ["c", "d", "a"], "g": ["g1"]}

    await in_step(saver, thread, change)
    assert await policy.sources() == {"f": ["d"], "g": ["g1"]}
    with pytest.raises(VectorInvalid):
        await policy.put_source("f", [*pieces("d"), at(0, 0, id="zero", source="f")])
    await policy.delete_source("g")
    assert await policy.sources() == {"f": ["d"]}


def test_what_is_known_of_names() -> None:
    now = 0.0
    known = KnownCollections(lambda: now)
    assert known.is_table("public.note")
    assert not known.is_table("note")
    known.put_table("note")
    assert known.is_table("note")
    now = 31.0
    assert not known.is_table("note")  # it is looked up again: a collection may have come
    known.put_table("note")
    known.put(Definition("note", 2, id=1))
    assert known.get("note") == Definition("note", 2, id=1)
    assert not known.is_table("note")
    known.forget("note")
    assert known.get("note") is None


async def test_a_name_is_looked_up_once(
    saver: TransactionalSaver, policy: Collection, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver.runs.collections.forget("policy")
    asked: list[str] = []
    real = Nearest._find

    def noting(self: Any, name: str) -> Any:
        asked.append(name)
        return real(self, name)

    monkeypatch.setattr(Nearest, "_find", noting)

    async def look(step: Any) -> None:
        for _ in range(3):
            await step.nearest("policy", embedding=[1.0, 0.0], k=1)

    await in_step(saver, thread, look)
    assert asked == ["policy"]
