"""Times to live: what has expired is not there, reading lets live on, and readers do not meet."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.store.base import GetOp, SearchOp

from superstep import transactional
from superstep.runtime.faults import MemoryInvalid
from tests.checkpointer.memory.test_in_step import outside
from tests.support.graphs import chain, steps_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import MemoryStore, TransactionalSaver
    from tests.support.bank import Bank

NS = ("users", "ada")


def keys(found: Any) -> list[str]:
    return [each.key for each in found]


async def expiry(bank: Bank, key: str = "k") -> datetime | None:
    (row,) = await bank.do("SELECT expires_at FROM runtime.memory WHERE key = $1 AND valid_to = 'infinity'", key)
    found: datetime | None = row["expires_at"]
    return found


async def nearly(bank: Bank) -> None:
    """Let everything that lives for a time expire in a minute."""
    await bank.do("UPDATE runtime.memory SET expires_at = now() + interval '1 minute' WHERE expires_at IS NOT NULL")


async def swept(store: MemoryStore) -> None:
    """Wait until somebody has."""
    async with asyncio.timeout(20):
        while (await store.ahistory(NS, "k"))[0].valid_to is None:
            pass


async def test_what_has_expired_is_not_there(store: MemoryStore, expire: Any) -> None:
    await store.aput(NS, "k", {"text": "a"}, ttl=10)
    await store.aput(NS, "stays", {"text": "ab"})
    await store.aput(("teams",), "k", {"text": "a"}, ttl=0.5)
    assert keys(await store.asearch((), query="a")) == ["k", "k", "stays"]
    await expire()
    assert await store.aget(NS, "k") is None
    assert keys(await store.asearch(())) == keys(await store.asearch((), query="a")) == ["stays"]
    assert keys(await store.asearch(NS, limit=1)) == ["stays"]
    assert await store.alist_namespaces() == [NS]
    keeps = store.configured(ttl={"omit_expired": False})
    assert keys(await keeps.asearch((), query="a")) == ["k", "k", "stays"]
    assert await keeps.aget(NS, "k") is not None
    assert await store.sweep() == 2
    assert await store.sweep_ttl() == 0
    assert await keeps.aget(NS, "k") is None
    assert keys(await keeps.asearch(())) == ["stays"]
    (version,) = await store.ahistory(NS, "k")
    assert version.valid_to == version.expires_at or version.valid_to == version.valid_from + timedelta(microseconds=1)


async def test_no_page_is_short_because_of_what_has_expired(store: MemoryStore, expire: Any) -> None:
    for n in range(5):
        await store.aput(NS, f"stays {n}", {"text": "a"})
        await store.aput(NS, f"goes {n}", {"text": "a"}, ttl=1)
    await expire()
    assert keys(await store.asearch(NS, limit=3)) == ["stays 4", "stays 3", "stays 2"]
    assert keys(await store.asearch(NS, query="a", limit=3, offset=2)) == ["stays 2", "stays 3", "stays 4"]


@pytest.mark.parametrize("ttl", [0, -1, 0.0, math.nan, math.inf, True, "1", 2e9])
async def test_a_time_to_live_is_above_zero(store: MemoryStore, ttl: Any) -> None:
    with pytest.raises(MemoryInvalid, match="minutes above 0"):
        await store.aput(NS, "k", {"n": 1}, ttl=ttl)
    with pytest.raises(MemoryInvalid, match="minutes above 0"):
        await store.aremember(NS, {"n": 1}, ttl=ttl)
    with pytest.raises(MemoryInvalid, match="minutes above 0"):
        store.configured(ttl={"default_ttl": ttl})
    assert await store.asearch(NS) == []


async def test_reading_lets_an_item_live_on(store: MemoryStore, bank: Bank) -> None:
    await store.aput(NS, "k", {"text": "a"}, ttl=60)
    far = datetime.now(UTC) + timedelta(minutes=50)
    for read in (
        store.aget(NS, "k"),
        store.asearch(NS),
        store.asearch(NS, query="a"),
        store.abatch([GetOp(NS, "k"), SearchOp(NS)]),
    ):
        await nearly(bank)
        await read
        at = await expiry(bank)
        assert at is not None
        assert at > far
    quiet = store.configured(ttl={"refresh_on_read": False})
    for read in (
        store.aget(NS, "k", refresh_ttl=False),
        store.asearch(NS, refresh_ttl=False),
        quiet.aget(NS, "k"),
        store.as_of(datetime.now(UTC)).aget(NS, "k"),
        store.asearch(NS, limit=0),
    ):
        await nearly(bank)
        await read
        at = await expiry(bank)
        assert at is not None
        assert at < far
    await store.aput(NS, "forever", {"text": "a"})
    await store.aget(NS, "forever")
    assert await expiry(bank, "forever") is None


async def test_what_has_expired_is_not_brought_back_by_reading(store: MemoryStore, expire: Any) -> None:
    await store.aput(NS, "k", {"text": "a"}, ttl=60)
    await expire()
    keeps = store.configured(ttl={"omit_expired": False})
    assert await keeps.aget(NS, "k") is not None
    assert await store.aget(NS, "k") is None


async def test_a_default_for_all(store: MemoryStore, bank: Bank) -> None:
    lives = store.configured(ttl={"default_ttl": 60})
    await lives.aput(NS, "k", {"text": "a"})
    await lives.aremember(NS, {"text": "b"}, key="known")
    await lives.aput(NS, "forever", {"text": "a"}, ttl=None)
    assert [await expiry(bank, key) is None for key in ("k", "known", "forever")] == [False, False, True]
    await store.aput(NS, "k", {"text": "a"})
    assert await expiry(bank) is None


async def test_a_put_after_the_end_makes_a_new_item(store: MemoryStore, expire: Any) -> None:
    await store.aput(NS, "k", {"n": 1}, ttl=60)
    first = await store.aget(NS, "k")
    await expire()
    await store.aput(NS, "k", {"n": 2})
    second = await store.aget(NS, "k")
    assert first is not None
    assert second is not None
    assert second.created_at > first.created_at


# -- in steps --------------------------------------------------------------------------------------------------------


async def test_a_refresh_in_a_step_commits_with_it(
    store: MemoryStore, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        await store.aget(NS, "k")
        await store.asearch(NS, query="a")
        seen.append(await expiry_outside())
        if len(seen) == 1:
            raise KeyError("x")

    async def expiry_outside() -> datetime | None:
        found: list[datetime | None] = []

        async def look() -> None:
            found.append(await expiry(bank))

        await outside(saver, look())
        return found[0]

    seen: list[Any] = []
    await store.aput(NS, "k", {"text": "a"}, ttl=60)
    await nearly(bank)
    before = await expiry(bank)
    graph = chain(saver, node)
    with pytest.raises(KeyError):
        await graph.ainvoke({"n": 0}, thread)
    assert await expiry(bank) == before
    await graph.ainvoke(None, thread)
    assert seen == [before, before]
    after = await expiry(bank)
    assert after is not None
    assert after > datetime.now(UTC) + timedelta(minutes=50)


@pytest.mark.parametrize("hold_idle", [0, "forever"])
async def test_readers_do_not_meet(store: MemoryStore, saver: TransactionalSaver, bank: Bank, new_thread: Any) -> None:
    """All have read before the first one commits, and each lets the item live on."""
    many = 6

    async def node(state: Any) -> Any:
        runs.append(1)
        await store.aget(NS, "k")
        await store.asearch(NS, query="a")
        await barrier.wait()

    runs: list[int] = []
    barrier = asyncio.Barrier(many)
    await store.aput(NS, "k", {"text": "a"}, ttl=60)
    await nearly(bank)
    threads = [new_thread() for _ in range(many)]
    flow = transactional(chain(saver, node))
    async with asyncio.timeout(60):
        await asyncio.gather(*(flow.ainvoke({"n": 0}, thread) for thread in threads))
    assert len(runs) == many
    assert sum([step.drifts for thread in threads for step in await steps_of(saver, thread)]) == 0


async def test_a_refresh_waits_for_nobody(store: MemoryStore, saver: TransactionalSaver, bank: Bank) -> None:
    """Whoever has the row locked is refreshing it, or about to change it."""
    await store.aput(NS, "k", {"text": "a"}, ttl=60)
    await nearly(bank)
    async with saver.transaction() as tx, asyncio.timeout(20):
        await tx.execute("SELECT FROM runtime.memory FOR UPDATE")
        assert await store.aget(NS, "k") is not None


async def test_what_expires_while_a_step_runs_was_there(
    store: MemoryStore, saver: TransactionalSaver, bank: Bank, expire: Any, thread: RunnableConfig
) -> None:
    """Time that passes changes no fact; a sweep does."""

    async def node(state: Any) -> Any:
        found.append((await store.aget(NS, "k", refresh_ttl=False)) is not None)
        found.append(len(await store.asearch(NS, refresh_ttl=False)))
        if len(found) == 2:
            await outside(saver, ends[0]())
        await store.aput(NS, "mine", {"n": 1})
        await store.adelete(NS, "mine")

    async def sweep() -> None:
        await expire()
        await store.sweep()

    async def put(key: str) -> None:
        await store.aput(NS, key, {"text": "a"}, ttl=60)

    await put("k")
    found: list[Any] = []
    ends: list[Any] = [sweep]
    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert found in ([True, 1], [True, 1, False, 0])  # the first is serial too: the sweep came after


async def test_a_sweeper_in_the_background(store: MemoryStore, bank: Bank, expire: Any) -> None:
    await store.aput(NS, "k", {"text": "a"}, ttl=60)
    await expire()
    assert await store.stop_ttl_sweeper() is True
    task = await store.start_ttl_sweeper(0.0005)
    assert await store.start_ttl_sweeper(5) is task
    await swept(store)
    assert await store.stop_ttl_sweeper(20) is True
    assert task.done()
    with pytest.raises(MemoryInvalid):
        await store.start_ttl_sweeper(-1)


async def test_a_sweeper_goes_on_after_a_failure(
    store: MemoryStore, bank: Bank, expire: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await bank.do("ALTER TABLE runtime.memory RENAME TO away")
    await store.start_ttl_sweeper(0.0005)
    async with asyncio.timeout(20):
        while "could not be swept" not in caplog.text:
            await bank.balance()
    await bank.do("ALTER TABLE runtime.away RENAME TO memory")
    await store.aput(NS, "k", {"text": "a"}, ttl=60)
    await expire()
    await swept(store)


async def test_a_saver_that_closes_stops_its_sweepers(database_url: str) -> None:
    from superstep.checkpointer import TransactionalSaver

    async with TransactionalSaver.from_conn_string(database_url) as saver:
        tasks = [await saver.store.start_ttl_sweeper(5), await saver.store.configured(index=False).start_ttl_sweeper()]
    assert all(task.done() for task in tasks)
