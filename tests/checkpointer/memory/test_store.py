"""What LangGraph's own stores do, outside of super-steps."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchItem,
    SearchOp,
)

from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.memory import writing
from superstep.runtime.faults import ConfigError, MemoryContended, MemoryInvalid, SchemaMissing
from tests.support.commands import ROOT

if TYPE_CHECKING:
    from superstep.checkpointer import MemoryStore
    from tests.checkpointer.memory.conftest import Letters
    from tests.support.bank import Bank

NS = ("users", "ada")


def keys(found: Any) -> list[str]:
    return [each.key for each in found]


async def test_an_item_comes_back_as_it_was_put(store: MemoryStore) -> None:
    value = {"z": 1, "a": [1.5, None, True, "ä\n\u2028"], "big": 1e23, "int": 10**30, "in": {"y": {}, "b": []}}
    await store.aput(NS, "k", value)
    item = await store.aget(NS, "k")
    assert item is not None
    assert (item.namespace, item.key, item.value) == (NS, "k", value)
    assert list(item.value) == list(value)
    assert item.value["big"] == 1e23
    assert type(item.value["big"]) is float
    assert item.created_at == item.updated_at
    assert item.created_at.utcoffset() is not None
    assert await store.aget(NS, "other") is None
    assert await store.aget(("users",), "k") is None


async def test_an_update_keeps_when_it_was_created(store: MemoryStore) -> None:
    await store.aput(NS, "k", {"n": 1})
    first = await store.aget(NS, "k")
    await store.aput(NS, "k", {"n": 2})
    second = await store.aget(NS, "k")
    assert first is not None
    assert second is not None
    assert (second.value, second.created_at) == ({"n": 2}, first.created_at)
    assert second.updated_at > first.updated_at
    await store.adelete(NS, "k")
    assert await store.aget(NS, "k") is None
    await store.aput(NS, "k", {"n": 3})
    third = await store.aget(NS, "k")
    assert third is not None
    assert third.created_at == third.updated_at > second.updated_at


async def test_deleting_what_is_not_there_is_nothing(store: MemoryStore) -> None:
    await store.adelete(NS, "k")
    await store.aput(NS, "k", None)  # type: ignore[arg-type]
    assert await store.aget(NS, "k") is None


async def test_a_batch_answers_in_the_order_of_its_operations(store: MemoryStore) -> None:
    await store.aput(("test", "foo"), "a", {"data": "one"})
    await store.aput(("test", "bar"), "b", {"data": "two"})
    found = await store.abatch(
        [
            PutOp(("test",), "c", {"data": "three"}),
            GetOp(("test", "foo"), "a"),
            SearchOp(("test",), {"data": "one"}),
            ListNamespacesOp(),
            GetOp(("test",), "c"),
            PutOp(("test", "bar"), "b", None),
            GetOp(("test", "bar"), "b"),
        ]
    )
    assert isinstance(found[1], Item)
    assert isinstance(found[2], list)
    assert (found[0], found[1].key, keys(found[2]), found[5]) == (None, "a", ["a"], None)
    assert found[3] == [("test", "bar"), ("test", "foo")]
    assert found[4] is None  # reads come before the writes of the same batch
    assert isinstance(found[6], Item)
    assert [await store.aget(("test",), "c") is not None, await store.aget(("test", "bar"), "b")] == [True, None]
    assert await store.abatch([]) == []


async def test_of_several_writes_of_one_item_the_last_counts(store: MemoryStore, bank: Bank) -> None:
    await store.abatch([PutOp(NS, "k", {"n": 1}), PutOp(NS, "k", None), PutOp(NS, "k", {"n": 3})])
    assert [each.value for each in await store.ahistory(NS, "k")] == [{"n": 3}]
    await store.abatch([PutOp(NS, "k", {"n": 4}), PutOp(NS, "k", None)])
    assert await store.aget(NS, "k") is None


async def test_a_batch_is_stored_as_a_whole_or_not_at_all(store: MemoryStore, bank: Bank) -> None:
    with pytest.raises(MemoryInvalid):
        await store.abatch([PutOp(NS, "good", {"n": 1}), PutOp(NS, "bad", {"n": object()})])
    assert await store.asearch(()) == []
    await bank.do("ALTER TABLE runtime.memory ADD CHECK (key <> 'bad')")
    with pytest.raises(Exception, match="check constraint"):
        await store.abatch([PutOp(NS, "good", {"n": 1}), PutOp(NS, "bad", {"n": 1})])
    assert await store.asearch(()) == []


async def test_namespaces_are_whole_labels(store: MemoryStore) -> None:
    spaces = [("foo",), ("foo", "x"), ("foobar",), ("user_1",), ("userX1",), ("a%",), ("ab",), ("line\n",)]
    for each in spaces:
        await store.aput(each, "k", {"at": ".".join(each)})
    assert {each.namespace for each in await store.asearch(("foo",))} == {("foo",), ("foo", "x")}
    assert keys(await store.asearch(("user_1",))) == ["k"]
    assert keys(await store.asearch(("a%",))) == ["k"]
    assert keys(await store.asearch(("line",))) == []
    assert len(await store.asearch(())) == len(spaces)
    assert len(await store.asearch(["foo"])) == 2  # type: ignore[arg-type]
    assert await store.alist_namespaces(prefix=("foo",)) == [("foo",), ("foo", "x")]


async def test_bad_input_is_named_and_stores_nothing(store: MemoryStore) -> None:
    for namespace in [(), ("a.b",), ("",), ("langgraph", "x"), (1,)]:
        with pytest.raises(InvalidNamespaceError):
            await store.aput(namespace, "k", {"n": 1})  # type: ignore[arg-type]
    for op in [PutOp(("a.b",), "k", {}), PutOp((), "k", {}), GetOp(("",), "k"), SearchOp(("x.y",))]:
        with pytest.raises(MemoryInvalid):
            await store.abatch([op])
    for value in [{"n": math.nan}, {"n": {1, 2}}, {"s": "\0"}, {"s": ["\ud800"]}, ["list"], "text", {"a\0": 1}]:
        with pytest.raises(MemoryInvalid):
            await store.aput(NS, "k", value)  # type: ignore[arg-type]
    for op in [SearchOp((), limit=-1), SearchOp((), offset=-1), ListNamespacesOp(max_depth=-1)]:
        with pytest.raises(MemoryInvalid):
            await store.abatch([op])
    with pytest.raises(MemoryInvalid, match="There is no such operation"):
        await store.abatch(["x"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="Unsupported operator"):
        await store.asearch(NS, filter={"n": {"$bad": 1}})
    assert await store.asearch(()) == []


async def test_search_filters_and_pages_latest_first(store: MemoryStore) -> None:
    for n in range(6):
        await store.aput(NS, f"k{n}", {"n": n, "even": n % 2 == 0, "text": "a" * n})
    assert keys(await store.asearch(NS)) == ["k5", "k4", "k3", "k2", "k1", "k0"]
    assert keys(await store.asearch(NS, limit=2, offset=1)) == ["k4", "k3"]
    assert keys(await store.asearch(NS, filter={"even": True, "n": {"$lt": 4}})) == ["k2", "k0"]
    assert keys(await store.asearch(NS, filter={"n": {"$gte": 10}})) == []
    assert keys(await store.asearch(NS, limit=0)) == []
    await store.aput(NS, "k0", {"n": 0})
    assert keys(await store.asearch(NS, limit=1)) == ["k0"]
    (found,) = await store.asearch(NS, limit=1)
    assert isinstance(found, SearchItem)
    assert found.score is None


async def test_namespaces_are_listed_by_what_they_match(store: MemoryStore) -> None:
    for each in ["a/b/c", "a/b/d/e", "a/b/d/i", "a/b/f", "a/c/f", "b/a/f", "users/123", "users/456/settings"]:
        await store.aput(tuple(each.split("/")), "k", {"x": 1})

    async def listed(**how: Any) -> list[str]:
        return ["/".join(each) for each in await store.alist_namespaces(**how)]

    assert await listed(prefix=("a", "b"), max_depth=3) == ["a/b/c", "a/b/d", "a/b/f"]
    assert await listed(prefix=("a", "*", "f")) == ["a/b/f", "a/c/f"]
    assert await listed(suffix=("f",)) == ["a/b/f", "a/c/f", "b/a/f"]
    assert await listed(prefix=("a",), suffix=("*", "f")) == ["a/b/f", "a/c/f"]
    assert await listed(max_depth=1) == ["a", "b", "users"]
    assert await listed(limit=2, offset=1) == ["a/b/d/e", "a/b/d/i"]
    assert await listed(prefix=("nobody",)) == []
    assert await listed(prefix=("users", "4")) == []
    assert len(await listed()) == 8
    (found,) = await store.abatch([ListNamespacesOp((MatchCondition("suffix", ("settings",)),))])
    assert found == [("users", "456", "settings")]
    await store.adelete(("users", "123"), "k")
    assert await listed(prefix=("users",)) == ["users/456/settings"]


# -- by meaning ------------------------------------------------------------------------------------------------------


async def test_search_by_meaning_is_exact_with_ties_by_key(store: MemoryStore) -> None:
    texts = {"z": "aaa", "m": "aa", "b": "ab", "c": "bbb", "d": "ccc"}
    for key, text in texts.items():
        await store.aput(NS, key, {"text": text})
    found = await store.asearch(NS, query="a")
    assert keys(found) == ["m", "z", "b", "c", "d"]
    assert [round(each.score or 0, 4) for each in found] == [1, 1, 0.7071, 0, 0]
    assert keys(await store.asearch(NS, query="a", limit=2, offset=1)) == ["z", "b"]
    assert keys(await store.asearch(("users",), query="c", limit=1)) == ["d"]
    assert keys(await store.asearch(("nobody",), query="c")) == []


async def test_a_filter_never_returns_fewer_than_there_are(store: MemoryStore, bank: Bank) -> None:
    """The few that match are the farthest of many."""
    await store.abatch([PutOp(NS, f"n{n:03}", {"text": "a" * 50 + "b" * (n % 7), "rare": False}) for n in range(200)])
    await store.abatch([PutOp(NS, f"r{n}", {"text": "z", "rare": True}) for n in range(12)])
    assert len(await store.asearch(NS, query="aaaa", filter={"rare": True})) == 10
    assert len(await store.asearch(NS, query="aaaa", filter={"rare": True}, limit=50)) == 12
    assert len(await store.asearch(NS, query="aaaa", filter={"rare": True}, limit=5, offset=10)) == 2


async def test_an_item_counts_once_by_its_nearest_text(saver: TransactionalSaver, letters: Letters) -> None:
    saver.embedder.own = letters
    store = saver.store.configured(index={"fields": ["title", "parts[*].text", "in.deep"]})
    await store.aput(NS, "one", {"title": "aaa", "parts": [{"text": "bbb"}, {"text": "ccc"}], "in": {"deep": "ddd"}})
    await store.aput(NS, "two", {"title": "eee", "other": "bbb"})
    for query in "abcd":
        found = await store.asearch(NS, query=query)
        assert (keys(found), found[0].score) == (["one", "two"], 1)
    assert keys(await store.asearch(NS, query="e", limit=1)) == ["two"]
    assert letters.calls[0] == ["aaa", "bbb", "ccc", "ddd"]  # one call for all texts of a batch


async def test_the_fields_of_an_item_may_be_chosen_when_it_is_put(store: MemoryStore) -> None:
    await store.aput(NS, "other", {"text": "aaa", "more": "bbb"}, index=["more"])
    await store.aput(NS, "none", {"text": "aaa"}, index=False)
    await store.aput(NS, "whole", {"text": "ccc"}, index=["$"])
    assert keys(await store.asearch(NS, query="b", limit=1)) == ["other"]
    assert (await store.asearch(NS, query="a"))[0].score != 1
    assert "none" not in keys(await store.asearch(NS, query="a"))
    assert "none" in keys(await store.asearch(NS))
    await store.aput(NS, "other", {"text": "zzz"})
    assert (await store.asearch(NS, query="b"))[0].score == 0


async def test_by_default_the_whole_value_is_embedded(saver: TransactionalSaver, letters: Letters) -> None:
    saver.embedder.own = letters
    await saver.store.aput(NS, "k", {"x": "ä", "a": 1})
    assert letters.calls == [['{"a": 1, "x": "ä"}']]


async def test_an_embedder_of_the_store(saver: TransactionalSaver) -> None:
    store = saver.store.configured(index={"dims": 2, "embed": lambda texts: [[len(t), 1.0] for t in texts]})
    await store.aput(NS, "k", {"x": 1})
    assert len(await store.asearch(NS, query="x")) == 1
    other = saver.store.configured(index={"dims": 3, "embed": lambda texts: [[len(t), 1.0] for t in texts]})
    with pytest.raises(MemoryInvalid, match="2 dimensions, and the index has 3"):
        await other.aput(NS, "k2", {"x": 1})
    assert await store.aget(NS, "k2") is None


async def test_without_an_index_nothing_is_embedded_and_a_query_is_ignored(
    store: MemoryStore, letters: Letters
) -> None:
    plain = store.configured(index=False)
    await plain.aput(NS, "k", {"text": "a"})
    assert keys(await plain.asearch(NS, query="zzz")) == ["k"]
    assert letters.calls == []


async def test_vectors_that_are_none(store: MemoryStore, saver: TransactionalSaver) -> None:
    async def wrong(texts: list[str]) -> Any:
        return given[-1]

    given: list[Any] = []
    await store.aput(NS, "zero", {"text": "."})  # no letter: no direction
    await store.aput(NS, "a", {"text": "a"})
    assert keys(await store.asearch(NS, query="a")) == ["a"]
    assert await store.asearch(NS, query="...") == []
    saver.embedder.own = wrong
    for vectors in ([[math.nan]], [[math.inf, 1.0]], [[]], [], [[1.0], [2.0]]):
        given.append(vectors)
        with pytest.raises(MemoryInvalid, match="The embedder gave"):
            await store.aput(NS, "k", {"text": "x"})
    assert await store.aget(NS, "k") is None


async def test_another_embedder_than_the_one_of_the_items(store: MemoryStore, saver: TransactionalSaver) -> None:
    async def two(texts: list[str]) -> list[list[float]]:
        return [[1.0, 2.0] for _ in texts]

    await store.aput(NS, "k", {"text": "a"})
    saver.embedder.own = two
    with pytest.raises(MemoryInvalid, match="other dimensions"):
        await store.asearch(NS, query="a")
    await store.aput(NS, "k", {"text": "a"})
    assert keys(await store.asearch(NS, query="a")) == ["k"]


async def test_without_an_embedder_all_but_search_by_meaning_works(
    saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from superstep.checkpointer.collections import embedder

    monkeypatch.setattr(embedder, "_of_process", [None])
    await saver.store.aput(NS, "k", {"text": "a"})
    assert keys(await saver.store.asearch(NS)) == ["k"]
    assert await saver.store.aremember(NS, {"text": "b"}, key="k") == "k"
    with pytest.raises(ConfigError, match="embedder"):
        await saver.store.asearch(NS, query="a")


# -- many at once ----------------------------------------------------------------------------------------------------


async def test_many_writers_of_few_items_all_get_through(store: MemoryStore) -> None:
    async def use(n: int) -> None:
        at = (*NS, str(n % 2))
        await store.aput(at, f"k{n % 5}", {"n": n})
        await store.aget(at, f"k{n % 5}")
        await store.asearch(NS, filter={"n": n})
        await store.alist_namespaces(max_depth=2)
        await (store.adelete(at, f"k{n % 5}") if n % 3 else store.aput(at, f"k{n % 5}", {"n": -n}))

    await asyncio.gather(*map(use, range(60)))
    assert await store.alist_namespaces(max_depth=2) in ([], [NS])


async def test_who_keeps_meeting_others_is_told(
    store: MemoryStore, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_TRIES", 3)
    await bank.do("CREATE FUNCTION meets() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '40001'; END $$")
    await bank.do("CREATE TRIGGER meets BEFORE INSERT ON runtime.memory FOR EACH ROW EXECUTE FUNCTION meets()")
    with pytest.raises(MemoryContended, match="3 times over"):
        await store.aput(NS, "k", {"text": "a"})
    await bank.do("DROP TRIGGER meets ON runtime.memory")
    await store.aput(NS, "k", {"text": "a"})


async def test_a_database_without_the_tables_is_named(empty_database_url: str) -> None:
    async with TransactionalSaver.from_conn_string(empty_database_url) as saver:
        for work in (saver.store.aget(NS, "k"), saver.store.aput(NS, "k", {"n": 1}), saver.store.sweep()):
            with pytest.raises(SchemaMissing):
                await work


def test_flows_without_memory_do_not_load_it() -> None:
    program = """
        import sys
        from superstep import TransactionalSaver, transactional
        assert not any(name.startswith("superstep.checkpointer.memory") for name in sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, cwd=ROOT)
    listing = """
        import sys
        from superstep.checkpointer import StoredThreads
        from superstep.checkpointer.memory import listings
        assert not any(name.startswith("langgraph") for name in sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(listing)], check=True, cwd=ROOT)
