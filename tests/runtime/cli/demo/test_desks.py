"""The plain side's cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer import StoredThreads
from superstep.runtime.cli.demo import desks
from superstep.runtime.cli.demo.desks import CachedDesk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

READ = "SELECT n FROM counter WHERE id = $1"
ADD = "UPDATE counter SET n = n + 1 WHERE id = $1"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(desks, "time", made)
    return made


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[StoredThreads]:
    async with StoredThreads.opened(database_url) as threads:
        async with threads.transaction() as tx:
            await tx.execute("CREATE TABLE counter (id text PRIMARY KEY, n int NOT NULL)")
            await tx.execute("INSERT INTO counter VALUES ('a', 0), ('b', 0)")
        yield threads


async def behind_its_back(database: StoredThreads, key: str) -> None:
    async with database.transaction() as tx:
        await tx.execute(ADD, key)


async def test_a_row_is_kept_for_its_time(database: StoredThreads, clock: Clock) -> None:
    desk = CachedDesk(database, 2.0)
    assert (await desk.read(READ, "a")).row["n"] == 0
    await behind_its_back(database, "a")
    clock.now += 1.9
    stale = await desk.read(READ, "a")
    assert (stale.row["n"], stale.at) == (0, 100.0)
    clock.now += 0.1
    fresh = await desk.read(READ, "a")
    assert (fresh.row["n"], fresh.at) == (1, clock.now)


async def test_no_cache(database: StoredThreads, clock: Clock) -> None:
    desk = CachedDesk(database, 0.0)
    assert (await desk.read(READ, "a")).row["n"] == 0
    await behind_its_back(database, "a")
    assert (await desk.read(READ, "a")).row["n"] == 1


async def test_what_is_written_is_dropped(database: StoredThreads, clock: Clock) -> None:
    desk = CachedDesk(database, 2.0)
    for key in "ab":
        await desk.read(READ, key)
        await behind_its_back(database, key)
    await desk.write([(ADD, ("a",))], touches=["a"])
    assert (await desk.read(READ, "a")).row["n"] == 2
    assert (await desk.read(READ, "b")).row["n"] == 0


async def test_it_is_read_committed(database: StoredThreads) -> None:
    desk = CachedDesk(database, 0.0)
    found = await desk.read("SELECT current_setting('transaction_isolation') AS level")
    assert found.row["level"] == "read committed"
    await desk.write([("CREATE TABLE level AS SELECT current_setting('transaction_isolation') AS level", ())])
    assert (await desk.read("SELECT level FROM level")).row["level"] == "read committed"
