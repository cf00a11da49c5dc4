"""Lines of several processes on one database; each `Lines` is a process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer.turns import lines
from superstep.checkpointer.turns.lines import Lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from superstep.checkpointer import TransactionalSaver

NAME = b"a key"


@pytest.fixture
async def process(saver: TransactionalSaver) -> AsyncIterator[Callable[[], Lines]]:
    made: list[Lines] = []

    def make() -> Lines:
        made.append(Lines(saver.database))
        return made[-1]

    yield make
    for each in made:
        await each.close()
    await saver.database.home.settle()


async def queue(saver: TransactionalSaver, name: bytes = NAME) -> list[str]:
    async with saver.transaction() as tx:
        return await tx.fetchval("SELECT queue FROM runtime.turn WHERE name = $1", name) or []


async def joined(saver: TransactionalSaver, many: int) -> None:
    async with asyncio.timeout(20):
        while len(await queue(saver)) != many:
            pass


async def test_first_come_first_served_across_processes(saver: TransactionalSaver, process: Any) -> None:
    a, b = process(), process()
    order: list[int] = []

    async def one(n: int) -> None:
        turn = await (a if n % 2 else b).wait(NAME)
        order.append(n)
        (a if n % 2 else b).leave(turn)

    first = await a.wait(NAME)
    assert first is not None
    tasks = []
    for n in range(8):
        tasks.append(asyncio.create_task(one(n)))
        await joined(saver, n + 2)
    assert order == []
    a.leave(first)
    await asyncio.gather(*tasks)
    assert order == list(range(8))
    await saver.database.home.settle()
    assert await saver.database.autocommit(lambda conn: conn.fetchval("SELECT count(*) FROM runtime.turn")) == 0


async def test_other_keys_are_other_lines(process: Any) -> None:
    a, b = process(), process()
    assert await a.wait(NAME) is not None
    assert await b.wait(b"another") is not None


async def test_who_is_cancelled_while_waiting_is_in_nobodys_way(saver: TransactionalSaver, process: Any) -> None:
    a, b = process(), process()
    first = await a.wait(NAME)
    gone = asyncio.create_task(b.wait(NAME))
    await joined(saver, 2)
    last = asyncio.create_task(a.wait(NAME))
    await joined(saver, 3)
    gone.cancel()
    await asyncio.wait([gone])
    a.leave(first)
    assert await last is not None


async def test_a_process_that_died_delays_nobody_longer_than_its_lease(
    saver: TransactionalSaver, process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LEASE", 0.3)
    monkeypatch.setattr(lines, "BEAT", 0.05)
    dead, alive = process(), process()
    assert await dead.wait(NAME) is not None
    more = [asyncio.create_task(dead.wait(NAME)) for _ in range(3)]
    await joined(saver, 4)
    waiting = [asyncio.create_task(alive.wait(NAME)) for _ in range(2)]
    await joined(saver, 6)
    dead._watching.cancel()
    first = await waiting[0]  # all of the dead process's tickets are gone at once
    alive.leave(first)
    assert await waiting[1] is not None
    for each in more:
        each.cancel()


async def test_a_process_that_lives_keeps_its_turn_past_the_lease(
    saver: TransactionalSaver, process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LEASE", 0.3)
    monkeypatch.setattr(lines, "BEAT", 0.05)
    a, b = process(), process()
    turn = await a.wait(NAME)
    waiting = asyncio.create_task(b.wait(NAME))
    beats: set[int] = set()
    async with asyncio.timeout(20):
        while len(beats) < 15:  # at one every 0.05 s, more than twice the lease
            beats.add(await saver.database.autocommit(lambda c: c.fetchval("SELECT beat FROM runtime.turn")))
    assert not waiting.done()
    a.leave(turn)
    assert await waiting is not None


async def test_no_turn_is_kept_for_ever(
    saver: TransactionalSaver, process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST", 0.1)
    a, b = process(), process()
    kept = await a.wait(NAME)
    assert await b.wait(NAME) is not None
    a.leave(kept)  # late, and harmless
    await saver.database.home.settle()


async def test_a_process_taken_for_dead_goes_on_without_a_turn(
    saver: TransactionalSaver, process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = process(), process()
    turn = await a.wait(NAME)
    waiting = asyncio.create_task(b.wait(NAME))
    await joined(saver, 2)
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.turn SET queue = queue[1:1]")
    assert await waiting is None
    a.leave(turn)


async def test_a_database_that_does_not_answer_keeps_nobody_waiting(
    saver: TransactionalSaver, process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = process()
    async with saver.transaction() as tx:
        await tx.execute("ALTER TABLE runtime.turn RENAME TO elsewhere")
    assert await a.wait(NAME) is None
    async with saver.transaction() as tx:
        await tx.execute("ALTER TABLE runtime.elsewhere RENAME TO turn")


async def test_a_ticket_that_came_in_after_its_owner_had_gone_is_taken_out(
    saver: TransactionalSaver, process: Any
) -> None:
    """A join and the leave after it may be on two connections, and arrive in the other order."""
    a, b = process(), process()
    first = await b.wait(NAME)
    own = asyncio.create_task(a.wait(NAME))
    await joined(saver, 2)
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.turn SET queue = queue[1:1] || $1::text || queue[2:]", f"{a._process}:77")
    b.leave(first)
    assert await own is not None


async def test_who_comes_or_goes_after_the_end_starts_nothing(saver: TransactionalSaver, process: Any) -> None:
    """A node has left it running, and the loop is about to end."""
    here = process()
    turn = await here.wait(NAME)
    late = asyncio.create_task(here.wait(NAME))
    await joined(saver, 2)
    await here.close()
    await saver.database.home.settle()
    here.leave(turn)
    assert await late is None
    assert await here.wait(NAME) is None
    assert not saver.database.home._background
    assert await queue(saver) == []
