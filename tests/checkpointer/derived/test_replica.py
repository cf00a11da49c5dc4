"""Tables of another server, replicated by PostgreSQL itself, as a source: two servers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from superstep.checkpointer import Aggregate, Replica, TransactionalSaver, pump
from superstep.runtime.faults import ConfigError, DatabaseUnavailable, EventSourceFailed
from tests.support.ledger import ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SPENT = Aggregate.of(
    "spent",
    events="public.payment",
    where={"op": ["c", "u"]},
    key="after.card",
    value="after.amount",
    compute=["count", "sum"],
)
SHOWN = Aggregate.of("shown", events="public.payment", key="op", compute="count")


@pytest.fixture(scope="module")
def ledger_url() -> Iterator[str]:
    with ledger() as url:
        yield url


@pytest.fixture
def book(ledger_url: str) -> Iterator[Any]:
    """The source's ledger with two payments in it."""
    with psycopg.connect(ledger_url, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS payment; DROP PUBLICATION IF EXISTS superstep_book")
        conn.execute(
            "CREATE TABLE payment (id int PRIMARY KEY, card text NOT NULL, amount numeric, at timestamptz NOT NULL);"
            "INSERT INTO payment VALUES (1, 'A', 1.5, '2026-01-01 00:00+00'), (2, 'A', 2, '2026-01-01 01:00+00')"
        )
        yield conn
        conn.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")


@pytest.fixture
async def replica(saver: TransactionalSaver, book: Any, ledger_url: str) -> AsyncIterator[Replica]:
    await saver.ingestion.declare(SPENT, SHOWN)
    replica = Replica(saver.database)
    await replica.subscribe("book", ledger_url, ["payment"], time_column="at")
    yield replica
    await replica.unsubscribe("book")
    assert await replica.status() == []


async def spent(saver: TransactionalSaver) -> dict[str, Any]:
    return dict((await saver.ingestion.signal("spent", "A")).values)


async def ingested(saver: TransactionalSaver, replica: Replica, events: int) -> None:
    """Ingest until there are so many events."""
    async with asyncio.timeout(60):
        while sum(each.events for each in await saver.ingestion.partitions()) < events:
            await pump(saver.ingestion, replica.source("book"))


async def test_what_was_there_and_what_changes_are_events_once(
    saver: TransactionalSaver, replica: Replica, book: Any, ledger_url: str
) -> None:
    await ingested(saver, replica, 2)
    assert await spent(saver) == {"count": 2, "sum": 3.5}
    book.execute("INSERT INTO payment VALUES (3, 'A', 4, '2026-01-01 02:00+00')")
    book.execute("UPDATE payment SET amount = 5 WHERE id = 3")
    book.execute("BEGIN; INSERT INTO payment VALUES (9, 'A', 9, now()); ROLLBACK")
    await ingested(saver, replica, 4)
    assert await spent(saver) == {"count": 4, "sum": 12.5}
    assert (await saver.ingestion.signal("shown", "u")).value == 1
    assert (await saver.ingestion.signal("shown", "c")).watermark.isoformat() == "2026-01-01T02:00:00+00:00"  # type: ignore[union-attr]
    async with saver.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM public.payment") == 3
        assert await tx.fetchval("SELECT count(*) FROM runtime.derived_inbox") == 0
    await replica.subscribe("book", ledger_url, ["payment"], time_column="at")  # idempotent
    book.execute("INSERT INTO payment VALUES (4, 'A', 1, '2026-01-01 03:00+00')")
    await ingested(saver, replica, 5)
    assert [(each.name, each.status, each.tables, each.errors) for each in await replica.status()] == [
        ("book", "running", ["payment"], 0)
    ]


async def test_what_was_ingested_and_not_taken_out_of_the_inbox_is_known(
    saver: TransactionalSaver, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> None:
        raise ZeroDivisionError

    async with asyncio.timeout(60):
        while len(await replica.inbox("book", [])) < 2:
            pass
    with monkeypatch.context() as patched:
        patched.setattr(replica, "taken", dies)
        with pytest.raises(ZeroDivisionError):
            await pump(saver.ingestion, replica.source("book"))
    await ingested(saver, replica, 2)
    done = await pump(saver.ingestion, replica.source("book"))
    assert done.counts.events == 0
    assert await spent(saver) == {"count": 2, "sum": 3.5}


async def test_a_source_whose_columns_change_is_named_and_goes_on_when_it_is_told_to(
    saver: TransactionalSaver, replica: Replica, book: Any, ledger_url: str
) -> None:
    await ingested(saver, replica, 2)
    book.execute("ALTER TABLE payment ADD COLUMN note text")
    book.execute("INSERT INTO payment VALUES (3, 'A', 4, now(), 'new')")
    async with asyncio.timeout(60):
        while (await replica.status())[0].status != "stopped":
            pass
    (stopped,) = await replica.status()
    assert stopped.what_to_do is not None
    assert "runtime ingest subscribe book" in stopped.what_to_do
    await replica.subscribe("book", ledger_url, ["payment"], time_column="at")
    await ingested(saver, replica, 3)
    assert await spent(saver) == {"count": 3, "sum": 7.5}
    assert [each async for each in saver.ingestion.quarantine()] == []


async def test_what_is_following_gets_what_comes(saver: TransactionalSaver, replica: Replica, book: Any) -> None:
    counted = asyncio.Event()
    goal = 2

    def look(now: Any) -> None:
        if now.counts.events >= goal:
            counted.set()

    following = asyncio.create_task(pump(saver.ingestion, replica.source("book", follow=True), progress=look))
    await asyncio.wait_for(counted.wait(), 60)
    counted.clear()
    goal = 3
    book.execute("DELETE FROM payment WHERE id = 1")
    await asyncio.wait_for(counted.wait(), 60)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert (await saver.ingestion.signal("shown", "d")).value == 1
    assert await spent(saver) == {"count": 2, "sum": 3.5}


async def test_what_cannot_be_subscribed_to_is_named(saver: TransactionalSaver, book: Any, ledger_url: str) -> None:
    replica = Replica(saver.database)
    for name, url, tables, error, words in (
        ("Book", ledger_url, ["payment"], ConfigError, "small letters"),
        ("book", ledger_url, [], ConfigError, "no table"),
        ("book", ledger_url, ["nothing"], EventSourceFailed, "no table public.nothing"),
        ("book", "postgresql://x@127.0.0.1:1/y", ["payment"], DatabaseUnavailable, "nothing listens"),
    ):
        with pytest.raises(error, match=words):
            await replica.subscribe(name, url, tables)
    for column in ("when", "card"):
        with pytest.raises(EventSourceFailed, match=f"no column {column} of type timestamp"):
            await replica.subscribe("book", ledger_url, ["payment"], time_column=column)
    with ledger("replica") as url, pytest.raises(EventSourceFailed, match="wal_level = replica"):
        await replica.subscribe("book", url, ["payment"])
