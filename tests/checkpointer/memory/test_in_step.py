"""Inside super-steps: reads in the snapshot, which are facts; writes that commit with the checkpoint or not at all."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ConfigError, ExtensionMissing, MemoryInvalid, StaleRun, StepConflict
from tests.support.bank import BALANCE
from tests.support.graphs import AGAIN, chain, fan, steps_of
from tests.support.race import Race

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import MemoryStore
    from tests.checkpointer.memory.conftest import Letters
    from tests.support.bank import Bank

NS = ("users", "ada")


def keys(found: Any) -> list[str]:
    return [each.key for each in found]


async def value(store: MemoryStore, key: str = "k") -> Any:
    item = await store.aget(NS, key)
    return None if item is None else item.value


async def outside(saver: TransactionalSaver, work: Any) -> None:
    """Do something that belongs to no super-step, from within a node."""
    import contextvars

    await asyncio.get_running_loop().create_task(work, context=contextvars.Context())


async def test_what_is_put_commits_with_the_checkpoint(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        await store.aput(NS, "k", {"n": 1})
        await store.adelete(NS, "old")
        await outside(saver, see())
        return {"n": 1}

    async def see() -> None:
        seen.append((await value(store), await value(store, "old")))

    seen: list[Any] = []
    await store.aput(NS, "old", {"n": 0})
    await chain(saver, node).ainvoke({"n": 0}, thread)
    await see()
    assert seen == [(None, {"n": 0}), ({"n": 1}, None)]
    assert [step.writes for step in await steps_of(saver, thread)] == [2]


async def test_what_a_node_read_is_a_fact_and_it_runs_again(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def count(state: Any) -> Any:
        known = await value(store) or {"n": 0}
        seen.append(known["n"])
        if len(seen) == 1:
            await outside(saver, store.aput(NS, "k", {"n": 10}))
        await store.aput(NS, "k", {"n": known["n"] + 1})
        return {"n": known["n"] + 1}

    seen: list[int] = []
    assert (await transactional(chain(saver, count)).ainvoke({"n": 0}, thread))["n"] == 11
    assert seen == [0, 10]
    assert await value(store) == {"n": 11}


@pytest.mark.parametrize("hold_idle", [0])  # so that what was read is compared when the step commits
@pytest.mark.parametrize("how", ["get", "search", "near", "namespaces"])
@pytest.mark.parametrize("fact", [True, False])
async def test_every_kind_of_read_is_a_fact_unless_it_is_only_shown(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig, how: str, fact: bool
) -> None:
    async def node(state: Any) -> Any:
        runs.append(1)
        reader = store if fact else store.shown()
        await read[how](reader)
        if len(runs) == 1:
            await outside(saver, store.aput((*NS, "below"), "k", {"text": "a"}))
            await outside(saver, store.aput(NS, "k", {"text": "a"}))
        current_step().stage("INSERT INTO journal (line) VALUES ('x')")

    read: dict[str, Callable[[MemoryStore], Any]] = {
        "get": lambda reader: reader.aget(NS, "k"),
        "search": lambda reader: reader.asearch(NS, filter={"text": "a"}),
        "near": lambda reader: reader.asearch(NS, query="a"),
        "namespaces": lambda reader: reader.alist_namespaces(prefix=NS),
    }
    runs: list[int] = []
    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert len(runs) == (2 if fact else 1)


async def test_what_others_change_elsewhere_is_no_conflict(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        runs.append(1)
        await store.aget(NS, "k")
        await store.asearch((*NS, "notes"), query="a")
        for other in [("users", "bob"), ("users", "ad"), ("users", "adam"), ("users",)]:
            await outside(saver, store.aput(other, "k", {"text": "a"}))
        await outside(saver, store.aput(NS, "other", {"text": "a"}))
        await store.aput(NS, "k", {"n": 1})

    runs: list[int] = []
    await chain(saver, node).ainvoke({"n": 0}, thread)
    assert runs == [1]


async def test_parallel_tasks_see_one_memory(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    first_has_read = asyncio.Event()
    changed = asyncio.Event()

    async def a(state: Any) -> Any:
        seen.append(await value(store.shown()))
        first_has_read.set()
        await outside(saver, store.aput(NS, "k", {"n": 2}))
        changed.set()

    async def b(state: Any) -> Any:
        await first_has_read.wait()
        await changed.wait()
        seen.append(await value(store.shown()))

    seen: list[Any] = []
    await store.aput(NS, "k", {"n": 1})
    await fan(saver, a, b).ainvoke({"n": 0}, thread)
    assert seen == [{"n": 1}, {"n": 1}]


async def test_a_node_that_fails_or_is_retried_leaves_nothing(
    store: MemoryStore, saver: TransactionalSaver, new_thread: Any
) -> None:
    async def retried(state: Any) -> Any:
        tries.append(1)
        assert await value(store, f"try {len(tries) - 1}") is None
        await store.aput(NS, f"try {len(tries)}", {"n": 1})
        await store.aremember(NS, {"text": "a" * len(tries)}, key=f"known {len(tries)}")
        if len(tries) < 3:
            raise ValueError

    async def fails(state: Any) -> Any:
        await store.aput(NS, "never", {"n": 1})
        raise KeyError("x")

    tries: list[int] = []
    await chain(saver, retried, retry_policy=AGAIN).ainvoke({"n": 0}, new_thread())
    with pytest.raises(KeyError):
        await chain(saver, fails).ainvoke({"n": 0}, new_thread())
    assert keys(await store.asearch(NS)) == ["known 3", "try 3"]


async def test_a_node_that_drifts_leaves_nothing(
    store: MemoryStore, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        balance = await race.decide()
        assert keys(await store.asearch(NS)) == []
        await store.aput(NS, f"saw {balance}", {"n": 1})

    race = Race(bank, 55)
    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert keys(await store.asearch(NS)) == ["saw 55"]


async def test_nothing_is_stored_while_a_human_is_asked(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        await store.aput(NS, "k", {"n": 1})
        return {"n": interrupt("go on?")}

    graph = chain(saver, node)
    await graph.ainvoke({"n": 0}, thread)
    assert await value(store) is None
    await graph.ainvoke(Command(resume=4), thread)
    assert await value(store) == {"n": 1}


async def test_texts_are_embedded_once_however_often_the_commit_is_tried(
    store: MemoryStore, saver: TransactionalSaver, bank: Bank, letters: Letters, thread: RunnableConfig
) -> None:
    from superstep.checkpointer.database import failpoints

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        await store.aput(NS, "k", {"text": "abc"})
        await store.aremember(NS, {"text": "xyz"})

    async def collide() -> None:
        failpoints.disarm("commit.validated")
        await outside(saver, store.configured(index=False).aput(NS, "k", {"text": "first"}))

    failpoints.arm("commit.validated", collide)
    await chain(saver, node).ainvoke({"n": 0}, thread)
    (step,) = await steps_of(saver, thread)
    assert (step.attempts, step.repairs, step.drifts) == (1, 1, 0)
    assert letters.calls == [["abc"], ["xyz"]]
    assert [each.value["text"] for each in await store.ahistory(NS, "k")] == ["abc", "first"]


# -- what a task sees of its own -------------------------------------------------------------------------------------


async def test_a_task_sees_its_own_writes_in_every_read(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    for key, text in {"a": "a", "b": "ab", "c": "c", "gone": "aa"}.items():
        await store.aput(NS, key, {"text": text, "old": True})
    await store.aput(("users", "bob"), "k", {"text": "a"})

    async def node(state: Any) -> Any:
        await store.aput(NS, "new", {"text": "aaab", "old": False})
        await store.aput(NS, "c", {"text": "b"})
        await store.adelete(NS, "gone")
        await store.adelete(("users", "bob"), "k")
        await store.aput(("teams", "x"), "k", {"text": "a"}, index=False)
        inside.append(await look(store))
        assert await value(store, "gone") is None
        assert await value(store, "new") == {"text": "aaab", "old": False}
        await store.adelete(NS, "new")
        assert await value(store, "new") is None
        await store.aput(NS, "new", {"text": "aaab", "old": False})

    inside: list[Any] = []
    await chain(saver, node).ainvoke({"n": 0}, thread)
    after = await look(store)
    assert inside == [after]
    assert after["near"] == ["a", "new", "b", "c"]
    assert after["namespaces"] == [("teams", "x"), NS]


async def look(store: MemoryStore) -> dict[str, Any]:
    """Everything that can be read, as far as two reads of the same memory agree on it."""
    return {
        "near": keys(await store.asearch(NS, query="a")),
        "page": keys(await store.asearch(NS, query="a", limit=2, offset=1)),
        "second": keys(await store.asearch(NS, limit=1, offset=3)),
        "filtered": sorted(keys(await store.asearch(NS, filter={"old": {"$ne": True}}))),
        "latest": sorted(keys(await store.asearch(NS, limit=2))),
        "scores": [round(each.score or 0, 6) for each in await store.asearch((), query="ab")],
        "namespaces": await store.alist_namespaces(),
        "paged": await store.alist_namespaces(limit=1, offset=1),
        "depth": await store.alist_namespaces(max_depth=1),
    }


async def test_what_was_forgotten_is_not_seen_any_more(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    await store.aput(NS, "k", {"text": "a"})
    await store.aput((*NS, "x"), "k", {"text": "a"})
    await store.aput(("users", "bob"), "k", {"text": "a"})

    async def node(state: Any) -> Any:
        await store.aput(NS, "before", {"text": "a"})
        await store.aforget(NS)
        await store.aput(NS, "after", {"text": "b"})
        inside.append(await look(store))
        assert [await value(store), await value(store, "before")] == [None, None]

    inside: list[Any] = []
    await chain(saver, node).ainvoke({"n": 0}, thread)
    assert inside == [await look(store)]
    assert keys(await store.asearch(NS)) == ["after"]
    assert await store.ahistory(NS, "k") == []


@pytest.mark.parametrize("seed", range(10))
async def test_what_a_task_sees_of_its_own_is_what_is_there_after_the_commit(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig, seed: int
) -> None:
    """Whatever it puts, deletes and forgets, on top of whatever is there."""
    chance = random.Random(seed)
    spaces = [NS, (*NS, "x"), ("users", "bob"), ("teams",)]

    async def change(kind: str) -> None:
        space, key = chance.choice(spaces), chance.choice("abcd")
        text = "".join(chance.choices("abc", k=chance.randint(0, 4)))
        if kind in ("put", "unindexed"):
            value = {"text": text, "old": chance.choice([True, False])}
            await store.aput(space, key, value, index=None if kind == "put" else False)
        elif kind == "delete":
            await store.adelete(space, key)
        else:
            await store.aforget(space, key if kind == "forget" else None)

    async def node(state: Any) -> Any:
        for kind in chance.choices(["put", "put", "unindexed", "delete", "forget", "forget below"], k=6):
            await change(kind)
        inside.append(await look(store))

    inside: list[Any] = []
    for _ in range(12):
        await change("put")
    await chain(saver, node).ainvoke({"n": 0}, thread)
    assert inside == [await look(store)]


async def test_siblings_are_serial_in_their_order(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    """The second task adds to what the first one has put, although both ran at once."""

    def adds(name: str) -> Any:
        async def node(state: Any) -> Any:
            known = await value(store) or {"names": []}
            await store.aput(NS, "k", {"names": [*known["names"], name]})

        node.__name__ = name
        return node

    await transactional(fan(saver, adds("a"), adds("b"), adds("c"))).ainvoke({"n": 0}, thread)
    assert await value(store) == {"names": ["a", "b", "c"]}


async def test_twenty_flows_that_add_to_one_item_lose_nothing(
    store: MemoryStore, saver: TransactionalSaver, new_thread: Any
) -> None:
    async def add(state: Any) -> Any:
        known = await value(store) or {"n": 0}
        await asyncio.sleep(0)
        await store.aput(NS, "k", {"n": known["n"] + 1})

    flow = transactional(chain(saver, add))
    await asyncio.gather(*(flow.ainvoke({"n": 0}, new_thread()) for _ in range(20)))
    assert await value(store) == {"n": 20}


# -- where it is no step ---------------------------------------------------------------------------------------------


async def test_a_step_of_another_saver_is_none_of_this_one(
    store: MemoryStore, database_url: str, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        await store.aput(NS, "k", {"n": 1})
        return {"n": (await value(store))["n"]}

    async with TransactionalSaver.from_conn_string(database_url) as other:
        assert (await chain(other, node).ainvoke({"n": 0}, thread))["n"] == 1
    assert [each.origin for each in await store.ahistory(NS, "k")] == [None]


async def test_a_graph_without_checkpointer_commits_at_once(store: MemoryStore) -> None:
    async def node(state: Any) -> Any:
        await store.aput(NS, "k", {"n": 1})
        return {"n": (await value(store))["n"]}

    assert (await chain(None, node).ainvoke({"n": 0}))["n"] == 1


async def test_a_late_write_of_a_run_that_has_ended_is_refused(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    go = asyncio.Event()

    async def late() -> None:
        await go.wait()
        await store.aput(NS, "k", {"n": 1})

    async def node(state: Any) -> Any:
        tasks.append(asyncio.create_task(late()))

    tasks: list[asyncio.Task[None]] = []
    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    go.set()
    with pytest.raises(StaleRun):
        await tasks[0]
    assert await value(store) is None


async def test_where_nothing_would_commit_it_is_refused(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def inner(state: Any) -> Any:
        await store.aput(NS, "k", {"n": 1})

    from langgraph.graph import START, StateGraph

    from tests.support.graphs import State

    builder = StateGraph(State)
    builder.add_node(
        "sub", StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile(checkpointer=False)
    )
    builder.add_edge(START, "sub")
    with pytest.raises(ConfigError, match="no barrier"):
        await builder.compile(checkpointer=saver).ainvoke({"n": 0}, thread)
    assert await value(store) is None


async def test_bad_input_in_a_step_stages_nothing(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        for work in (
            store.aput(NS, "k", {"n": object()}),
            store.aput(NS, "k", {"n": 1}, ttl=0),
            store.aremember(NS, {"n": 1}, same=3),
            store.as_of((await store.aget(NS, "there")).updated_at).aput(NS, "k", {"n": 1}),  # type: ignore[union-attr]
            store.aforget(()),
        ):
            with pytest.raises(MemoryInvalid):
                await work
        return {"n": len(current_step().staged)}

    await store.aput(NS, "there", {"n": 1})
    assert (await chain(saver, node).ainvoke({"n": 7}, thread))["n"] == 0


async def test_a_conflict_passes_through_the_store(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        await store.aget(NS, "k")
        await outside(saver, store.aput(NS, "k", {"n": 1}))
        await store.aput(NS, "mine", {"n": 1})

    with pytest.raises(StepConflict) as caught:
        await chain(saver, node).ainvoke({"n": 0}, thread)
    assert caught.value.tasks == ("node",)
    assert await value(store, "mine") is None


async def test_in_a_database_without_pgvector_only_meaning_is_missing(
    store: MemoryStore, saver: TransactionalSaver, bank: Bank, new_thread: Any
) -> None:
    await bank.do("DROP EXTENSION vector CASCADE")
    await store.aput(NS, "k", {"text": "a"})

    async def node(state: Any) -> Any:
        await store.aput(NS, "mine", {"text": "b"})
        assert await value(store) == {"text": "a"}
        assert len(await store.asearch(NS, filter={"text": "a"})) == 1
        await store.aremember(NS, {"text": "c"}, key="c", same=None)
        for work in (store.asearch(NS, query="a"), store.aremember(NS, {"text": "a"})):
            with pytest.raises(ExtensionMissing):
                await work

    await chain(saver, node).ainvoke({"n": 0}, new_thread())
    assert sorted(keys(await store.asearch(NS))) == ["c", "k", "mine"]
    for work in (store.asearch(NS, query="a"), store.aremember(NS, {"text": "a"})):
        with pytest.raises(ExtensionMissing):
            await work
    await bank.do("CREATE EXTENSION vector")
    assert keys(await store.asearch(NS, query="a", limit=1)) == ["k"]  # nothing has to be put again
