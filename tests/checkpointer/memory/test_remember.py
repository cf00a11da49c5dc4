"""What several remember at once is one memory, decided in the transaction that commits."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.memory import queries
from superstep.checkpointer.memory.indexing import Vectors
from superstep.checkpointer.memory.queries import NewVersion
from superstep.runtime.faults import MemoryInvalid
from tests.support.bank import BALANCE, LOG
from tests.support.commands import ROOT
from tests.support.graphs import chain, fan, steps_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import MemoryStore
    from tests.checkpointer.memory.conftest import Letters
    from tests.support.bank import Bank

NS = ("users", "ada", "facts")
SAID = {"text": "likes green tea"}
ALSO = {"text": "tea green likes"}  # the same letters, another key
OTHER = {"text": "quiz"}


def keys(found: Any) -> list[str]:
    return [each.key for each in found]


def texts(found: Any) -> list[str]:
    return [each.value["text"] for each in found]


@pytest.fixture
async def second(database_url: str, store: MemoryStore, letters: Letters) -> AsyncIterator[TransactionalSaver]:
    """Another saver, as of another process: its commits share no transaction and no line with the first one's."""
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        saver.embedder.own = letters
        yield saver


async def test_what_is_known_is_not_stored_again(store: MemoryStore) -> None:
    first = await store.aremember(NS, SAID)
    assert await store.aremember(NS, SAID) == first
    assert await store.aremember(NS, ALSO) == first
    other = await store.aremember(NS, OTHER)
    assert other != first
    assert texts(await store.asearch(NS)) == ["quiz", "likes green tea"]
    assert [each.version for each in await store.ahistory(NS, first)] == [1]


async def test_how_near_is_the_same(store: MemoryStore) -> None:
    await store.aremember(NS, {"text": "aaaa"})
    await store.aremember(NS, {"text": "aaab"}, same=0.06)  # at 0.0513
    assert texts(await store.asearch(NS)) == ["aaaa"]
    await store.aremember(NS, {"text": "aaab"}, same=0.05)
    await store.aremember(NS, {"text": "aaaaa"}, same=None)
    assert texts(await store.asearch(NS)) == ["aaaaa", "aaab", "aaaa"]
    for same in (-0.1, 2.1, True, "x", float("nan")):
        with pytest.raises(MemoryInvalid, match="cosine distance"):
            await store.aremember(NS, SAID, same=same)  # type: ignore[arg-type]


async def test_the_key_decides_whatever_is_said(store: MemoryStore) -> None:
    assert await store.aremember(NS, SAID, key="tea") == "tea"
    assert await store.aremember(NS, OTHER, key="tea") == "tea"
    assert await store.aremember(NS, ALSO, key="drink") == "tea"
    assert [each.value for each in await store.asearch(NS)] == [SAID]


async def test_it_is_known_in_its_own_namespace_only(store: MemoryStore) -> None:
    for namespace in (NS, NS[:2], (*NS, "more"), ("users", "bob", "facts")):
        await store.aremember(namespace, SAID)
    assert len(await store.asearch(())) == 4


async def test_an_item_with_several_texts_is_the_same_only_if_all_are_known(
    saver: TransactionalSaver, letters: Letters
) -> None:
    saver.embedder.own = letters
    store = saver.store.configured(index={"fields": ["parts[*]"]})
    await store.aremember(NS, {"parts": ["aa", "bb", "cc"]})
    await store.aremember(NS, {"parts": ["b", "a"]})
    assert len(await store.asearch(NS)) == 1
    await store.aremember(NS, {"parts": ["a", "z"]})
    assert len(await store.asearch(NS)) == 2


async def test_what_was_deleted_or_has_expired_is_not_known_any_more(store: MemoryStore, expire: Any) -> None:
    key = await store.aremember(NS, SAID)
    await store.adelete(NS, key)
    await store.aremember(NS, ALSO, ttl=60)
    await expire()
    await store.aremember(NS, SAID)
    assert texts(await store.asearch(NS)) == [SAID["text"]]
    await store.aput(NS, "k", OTHER, ttl=60)
    await expire()
    assert await store.aremember(NS, OTHER, key="k") == "k"
    assert [(each.version, each.expires_at is None) for each in await store.ahistory(NS, "k")] == [
        (2, True),
        (1, False),
    ]


async def test_vectors_of_another_embedder_are_not_the_same(store: MemoryStore, saver: TransactionalSaver) -> None:
    async def two(texts: list[str]) -> list[list[float]]:
        return [[1.0, 2.0] for _ in texts]

    await store.aremember(NS, SAID)
    saver.embedder.own = two
    await store.aremember(NS, ALSO)
    assert len(await store.asearch(NS)) == 2


# -- at once ---------------------------------------------------------------------------------------------------------


async def test_any_number_at_once_outside_of_steps(store: MemoryStore, second: TransactionalSaver) -> None:
    other = second.store.configured(index={"fields": ["text"]})
    said = [SAID, ALSO, {"text": "green likes tea"}]
    found = await asyncio.gather(*((store, other)[n % 2].aremember(NS, said[n % 3]) for n in range(24)))
    assert len(await store.asearch(NS)) == 1
    assert len(set(found)) == 1


class Flows:
    """Two flows that remember the same thing, "ours" and "theirs" of another process, and the order of their commits.

    Attributes:
        runs: names of the nodes that have run.
    """

    def __init__(self, savers: dict[str, TransactionalSaver], threads: dict[str, Any], first: str) -> None:
        self.runs: list[str] = []
        self._savers = savers
        self._threads = threads
        self._first = first
        self._name: ContextVar[str] = ContextVar("name")  # of the flow that code belongs to, its commits too
        self._staged = {name: asyncio.Event() for name in savers}
        self._committed = asyncio.Event()

    async def run(self, name: str, said: Any, key: str | None) -> None:
        saver = self._savers[name]

        async def node(state: Any) -> Any:
            self.runs.append(name)
            await current_step().fetchval(BALANCE, 1)
            await saver.store.configured(index={"fields": ["text"]}).aremember(NS, said, key=key)
            current_step().stage(LOG, name)

        self._name.set(name)
        await transactional(chain(saver, node)).ainvoke({"n": 0}, self._threads[name])

    async def both_have_staged(self) -> None:
        """Both have executed what they staged before either commits; then the first one does."""
        name = self._name.get()
        if self._staged[name].is_set():
            return  # the second time
        self._staged[name].set()
        for each in self._staged.values():
            await each.wait()
        if name != self._first:
            await self._committed.wait()

    async def committed(self) -> None:
        self._committed.set()

    async def steps(self) -> dict[str, Any]:
        return {name: (await steps_of(saver, self._threads[name]))[0] for name, saver in self._savers.items()}


@pytest.fixture
def first() -> str:
    """Which of the two commits first; tests ask for one with `parametrize`."""
    return "ours"


@pytest.fixture
def flows(saver: TransactionalSaver, second: TransactionalSaver, new_thread: Any, first: str) -> Flows:
    return Flows({"ours": saver, "theirs": second}, {"ours": new_thread(), "theirs": new_thread()}, first)


@pytest.mark.parametrize("hold_idle", [0, "forever"])
@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_two_flows_of_two_processes_both_complete_with_one_memory(store: MemoryStore, flows: Flows) -> None:
    failpoints.arm("commit.staged", flows.both_have_staged)
    failpoints.arm("commit.committed", flows.committed)
    async with asyncio.timeout(30):
        await asyncio.gather(flows.run("ours", SAID, None), flows.run("theirs", ALSO, None))
    assert sorted(flows.runs) == ["ours", "theirs"]  # nothing ran twice
    steps = await flows.steps()
    assert [step.drifts for step in steps.values()] == [0, 0]
    assert sum(step.repairs for step in steps.values()) >= 1
    said = {"ours": SAID, "theirs": ALSO}[next(name for name, step in steps.items() if not step.repairs)]
    assert [each.value for each in await store.asearch(NS)] == [said]


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_the_second_one_with_the_same_key_waits_for_the_first(
    store: MemoryStore, flows: Flows, bank: Bank, first: str
) -> None:
    """It finds the row of the first one in its way, which is not committed yet."""

    async def staged() -> None:
        failpoints.disarm("commit.staged")
        others.append(asyncio.create_task(flows.run({"ours": "theirs", "theirs": "ours"}[first], ALSO, "tea")))
        await bank.lock_waited_for(others[0])
        waited.append(not others[0].done())

    others: list[asyncio.Task[None]] = []
    waited: list[bool] = []
    failpoints.arm("commit.staged", staged)
    async with asyncio.timeout(30):
        await flows.run(first, SAID, "tea")
        await others[0]
    assert (waited, sorted(flows.runs)) == ([True], ["ours", "theirs"])
    assert [each.value for each in await store.asearch(NS)] == [SAID]
    assert [each.version for each in await store.ahistory(NS, "tea")] == [1]


async def test_a_row_in_the_way_is_a_conflict_and_no_fault_of_the_task(
    saver: TransactionalSaver, database_url: str
) -> None:
    """Of a program below SERIALIZABLE, too, which PostgreSQL keeps no account of."""
    new = NewVersion([*NS], "k", "{}", None, Vectors([], []), 1.0, None, datetime.now(UTC))
    text, args = queries.put("runtime", new)
    other = await asyncpg.connect(database_url)
    try:
        async with saver.transaction() as tx:
            assert await tx.fetch("SELECT FROM runtime.memory") == []
            await other.execute(text, *args)
            with pytest.raises(asyncpg.SerializationError):
                await tx.execute(text, *args)
            raise _Over
    except _Over:
        pass
    finally:
        await other.close()


class _Over(Exception):
    """The transaction is to be rolled back."""


async def test_many_flows_of_one_process_remember_once(
    store: MemoryStore, saver: TransactionalSaver, bank: Bank, new_thread: Any
) -> None:
    runs: list[int] = []

    async def node(state: Any) -> Any:
        runs.append(1)
        await store.aremember(NS, SAID if len(runs) % 2 else ALSO)
        current_step().stage(LOG, "x")

    flow = transactional(chain(saver, node))
    await asyncio.gather(*(flow.ainvoke({"n": 0}, new_thread()) for _ in range(30)))
    assert len(runs) == len(await bank.journal()) == 30
    assert len(await store.asearch(NS)) == 1


async def test_two_tasks_of_one_step_remember_once(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def a(state: Any) -> Any:
        await store.aremember(NS, SAID)

    async def b(state: Any) -> Any:
        await store.aremember(NS, ALSO)
        await store.aremember(NS, OTHER)

    await transactional(fan(saver, a, b)).ainvoke({"n": 0}, thread)
    assert texts(await store.asearch(NS)) == ["quiz", SAID["text"]]


async def test_a_task_knows_what_it_has_remembered_by_its_key(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        key = await store.aremember(NS, OTHER)
        item = await store.aget(NS, key)
        assert item is not None
        assert item.value == OTHER
        known = await store.aremember(NS, ALSO)
        item = await store.aget(NS, known)
        assert item is not None
        assert item.value == SAID
        assert texts(await store.asearch(NS)) == [SAID["text"]]
        return {"bag": {"keys": [key, known]}}

    first = await store.aremember(NS, SAID)
    found = await chain(saver, node).ainvoke({"n": 0}, thread)
    assert found["bag"]["keys"][1] == first
    assert texts(await store.asearch(NS)) == ["quiz", SAID["text"]]


PROGRAM = """
    import asyncio, sys
    from superstep import TransactionalSaver, transactional
    from langgraph.graph import START, StateGraph

    async def embed(texts):
        return [[float(text.count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]

    async def main():
        async with TransactionalSaver.from_conn_string(sys.argv[1]) as saver:
            saver.embedder.own = embed
            store = saver.store.configured(index={"fields": ["text"]})

            async def node(state):
                n = state["n"]
                await store.aremember(("facts", str(n)), {"text": "tea green likes"[n % 3:] + sys.argv[2]})
                item = await store.aget(("count",), "k")
                await store.aput(("count",), "k", {"n": (item.value["n"] if item else 0) + 1})

            builder = StateGraph(dict).add_node("node", node).add_edge(START, "node")
            flow = transactional(builder.compile(checkpointer=saver, store=store))
            print("ready", flush=True)
            sys.stdin.readline()
            for n in range(12):
                await flow.ainvoke({"n": n}, {"configurable": {"thread_id": f"{sys.argv[2]}-{n}"}})

    asyncio.run(main())
"""


async def test_two_processes_remember_each_fact_once_and_lose_no_update(store: MemoryStore, database_url: str) -> None:
    """What they say differs in a digit, which the embedder does not count."""
    programs = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", textwrap.dedent(PROGRAM), database_url, name, cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for name in "12"
    ]  # fmt: skip
    for each in programs:
        assert each.stdout is not None
        assert await asyncio.wait_for(each.stdout.readline(), 60) == b"ready\n"
    for each in programs:
        assert each.stdin is not None
        each.stdin.write(b"\n")
        each.stdin.close()
    assert await asyncio.wait_for(asyncio.gather(*(each.wait() for each in programs)), 60) == [0, 0]
    assert len(await store.asearch(("facts",), limit=99)) == 12
    item = await store.aget(("count",), "k")
    assert item is not None
    assert item.value == {"n": 24}
