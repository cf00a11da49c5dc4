"""Versions of items: when each counted, who put it, and how long it is kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph

from superstep import transactional
from superstep.checkpointer import current_step
from superstep.runtime.faults import MemoryInvalid
from tests.support.bank import BALANCE
from tests.support.graphs import State, chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import MemoryStore, TransactionalSaver
    from tests.support.bank import Bank

NS = ("users", "ada")


def keys(found: Any) -> list[str]:
    return [each.key for each in found]


async def test_each_version_says_when_it_counted(store: MemoryStore, bank: Bank) -> None:
    await store.aput(NS, "k", {"n": 1})
    await store.aput(NS, "k", {"n": 2})
    await store.adelete(NS, "k")
    await store.aput(NS, "k", {"n": 3})
    third, second, first = await store.ahistory(NS, "k")
    assert [each.value for each in (first, second, third)] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert [each.version for each in (first, second, third)] == [1, 2, 3]
    assert first.valid_to == second.valid_from
    assert second.valid_to is not None
    assert second.valid_from < second.valid_to < third.valid_from
    assert third.valid_to is None
    assert await store.ahistory(NS, "other") == []


async def test_what_the_memory_said_then(store: MemoryStore) -> None:
    before = datetime.now(UTC)
    await store.aput(NS, "k", {"text": "a", "n": 1})
    await store.aput(NS, "old", {"text": "aa"})
    await store.aput(("teams",), "k", {"text": "a"})
    (version,) = await store.ahistory(("teams",), "k")
    then = version.valid_from
    await store.aput(NS, "k", {"text": "b", "n": 2})
    await store.adelete(NS, "old")
    await store.adelete(("teams",), "k")
    past = store.as_of(then)
    item = await past.aget(NS, "k")
    assert item is not None
    assert item.value == {"text": "a", "n": 1}
    assert keys(await past.asearch((), query="a")) == ["k", "k", "old"]
    assert sorted(keys(await past.asearch(NS))) == ["k", "old"]
    assert keys(await past.asearch((), filter={"n": 1})) == ["k"]
    assert await past.alist_namespaces() == [("teams",), NS]
    assert await store.as_of(before).asearch(()) == []
    assert await store.alist_namespaces() == [NS]
    assert await store.as_of(datetime.now(UTC) + timedelta(days=1)).aget(NS, "k") == await store.aget(NS, "k")


async def test_the_past_is_read_only(store: MemoryStore) -> None:
    past = store.as_of(datetime.now(UTC))
    for work in (past.aput(NS, "k", {"n": 1}), past.adelete(NS, "k"), past.aremember(NS, {"n": 1}), past.aforget(NS)):
        with pytest.raises(MemoryInvalid, match="can be read, not changed"):
            await work
    with pytest.raises(MemoryInvalid, match="time zone"):
        store.as_of(datetime(2026, 1, 1))  # noqa: DTZ001


async def test_the_past_can_be_read_in_a_step(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    await store.aput(NS, "k", {"n": 1})
    then = (await store.ahistory(NS, "k"))[0].valid_from
    await store.aput(NS, "k", {"n": 2})

    async def node(state: Any) -> Any:
        await store.aput(NS, "k", {"n": 3})
        seen = [await each.aget(NS, "k") for each in (store, store.as_of(then))]
        versions = await store.ahistory(NS, "k")
        return {"seen": [each.value["n"] for each in [*seen, *versions] if each]}

    assert (await chain(saver, node).ainvoke({"seen": []}, thread))["seen"] == [3, 1, 2, 1]


async def test_each_version_says_where_it_comes_from(
    store: MemoryStore, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def below(state: Any) -> Any:
        await store.aput(NS, "below", {"n": 1})

    async def node(state: Any) -> Any:
        await store.aput(NS, "first", {"n": 1})
        await current_step().fetchval(BALANCE, 1)
        await store.aget(NS, "first")
        await store.aget(NS, "unknown")
        await store.aremember(NS, {"n": 2}, key="known")

    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_node("sub", StateGraph(State).add_node("below", below).add_edge(START, "below").compile())
    builder.add_edge(START, "node")
    builder.add_edge("node", "sub")
    graph = builder.compile(checkpointer=saver)
    await transactional(graph).ainvoke({"n": 0}, thread)
    origins = {key: (await store.ahistory(NS, key))[0].origin for key in ("first", "known", "below")}
    first, known, under = origins["first"], origins["known"], origins["below"]
    assert first is not None
    assert known is not None
    assert under is not None
    assert (first.thread_id, first.ns, first.node) == (thread["configurable"]["thread_id"], "", "node")
    assert first.facts == ()
    assert [each.sql.split()[1] for each in known.facts] == ["balance", "namespace,"]
    assert all(len(bytes.fromhex(each.digest)) > 16 for each in known.facts)
    assert (under.node, under.ns.partition(":")[0]) == ("below", "sub")
    states = [each async for each in graph.aget_state_history(thread)]
    started = next(each for each in states if each.next == ("node",))
    assert first.checkpoint_id == known.checkpoint_id == started.config["configurable"]["checkpoint_id"]
    assert {first.task_id, known.task_id} == {each.id for each in started.tasks}
    await store.aput(NS, "first", {"n": 3})
    assert [each.origin is None for each in await store.ahistory(NS, "first")] == [True, False]


async def test_of_one_item_a_hundred_versions_are_kept(store: MemoryStore) -> None:
    for n in range(105):
        await store.configured(index=False).aput(NS, "k", {"n": n})
    found = await store.ahistory(NS, "k")
    assert [each.value["n"] for each in found] == list(range(104, 4, -1))
    assert [each.version for each in found] == list(range(105, 5, -1))


async def test_what_ended_long_ago_is_deleted(store: MemoryStore, bank: Bank) -> None:
    async def age(days: int) -> None:
        await bank.do(
            "UPDATE runtime.memory SET valid_from = valid_from - $1::interval, valid_to = valid_to - $1::interval",
            timedelta(days=days),
        )

    for n in range(3):
        await store.aput(NS, "k", {"text": "a" * n})
    await store.aput(NS, "gone", {"text": "b"})
    await store.adelete(NS, "gone")
    assert await store.sweep() == 0
    assert len(await store.ahistory(NS, "k")) == 3
    await age(31)
    await store.aput(NS, "k", {"text": "aaa"})  # takes the old ones of its own item along
    assert [each.version for each in await store.ahistory(NS, "k")] == [4, 3]
    assert len(await store.ahistory(NS, "gone")) == 1
    await store.sweep()
    assert await store.ahistory(NS, "gone") == []
    await age(2)
    await store.configured(history=timedelta(days=3)).sweep()
    assert len(await store.ahistory(NS, "k")) == 2
    await store.configured(history=timedelta(days=1)).sweep()
    assert [each.version for each in await store.ahistory(NS, "k")] == [4]
    (left,) = await bank.do("SELECT count(*) AS vectors FROM runtime.memory_vector")
    assert left["vectors"] == 1
    for history in (timedelta(0), timedelta(days=-1), 3):
        with pytest.raises(MemoryInvalid, match="timedelta above 0"):
            store.configured(history=history)  # type: ignore[arg-type]


async def test_of_what_is_forgotten_nothing_is_left(store: MemoryStore, bank: Bank) -> None:
    for namespace in (NS, (*NS, "x"), ("users", "adam")):
        for key in ("k", "other"):
            await store.aput(namespace, key, {"text": "a"})
            await store.aput(namespace, key, {"text": "b"})
    await store.aforget(NS, "k")
    assert await store.ahistory(NS, "k") == []
    assert len(await store.ahistory(NS, "other")) == 2
    await store.aforget(NS)
    assert {each.namespace for each in await store.asearch(())} == {("users", "adam")}
    (left,) = await bank.do(
        "SELECT count(*) AS n, (SELECT count(*) FROM runtime.memory_vector) AS v FROM runtime.memory"
    )
    assert (left["n"], left["v"]) == (4, 4)
    with pytest.raises(MemoryInvalid, match="at least one label"):
        await store.aforget(())


async def test_times_of_one_item_never_go_back(store: MemoryStore, bank: Bank) -> None:
    """Whatever the clock says: here the version before is of tomorrow."""
    await store.aput(NS, "k", {"n": 1})
    await bank.do(
        "UPDATE runtime.memory SET valid_from = now() + interval '1 day', updated_at = now() + interval '1 day'"
    )
    await store.aput(NS, "k", {"n": 2})
    await store.adelete(NS, "k")
    await store.aput(NS, "k", {"n": 3})
    third, second, first = await store.ahistory(NS, "k")
    assert first.valid_from < second.valid_from < third.valid_from
    item = await store.aget(NS, "k")
    assert item is not None
    assert item.updated_at > datetime.now(UTC) + timedelta(hours=23)


async def test_puts_at_once_are_all_kept_as_versions(store: MemoryStore) -> None:
    await asyncio.gather(*(store.configured(index=False).aput(NS, "k", {"n": n}) for n in range(20)))
    found = await store.ahistory(NS, "k")
    assert sorted(each.value["n"] for each in found) == list(range(20))
    assert [each.valid_to for each in found[1:]] == [each.valid_from for each in found[:-1]]
