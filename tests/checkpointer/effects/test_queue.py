"""The port to the queue: jobs are part of transactions, and done at least once whatever becomes of workers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep.checkpointer import Again, Job, TransactionalSaver
from superstep.checkpointer.effects import queue as queue_module
from superstep.runtime.faults import ConfigError, QueueMismatch
from tests.support.effects import jobs, settled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.support.bank import Bank

LEASE = 1.0


async def put(saver: TransactionalSaver, *given: Job) -> None:
    async with saver.transaction() as tx:
        await saver.queue.put(tx, given)


class Worker:
    """A worker in a task of its own."""

    def __init__(
        self, saver: TransactionalSaver, handlers: Mapping[str, Callable[[bytes, int], Awaitable[None]]], **more: Any
    ) -> None:
        self.stop = asyncio.Event()
        how = {"concurrency": 4, "lease": LEASE, "stop": self.stop, **more}
        self.task = asyncio.create_task(saver.queue.work(handlers, **how))

    async def end(self) -> None:
        self.stop.set()
        async with asyncio.timeout(30):
            await self.task


class Did:
    """Jobs that were done."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.attempts: list[int] = []
        self._changed = asyncio.Event()

    async def __call__(self, payload: bytes, attempts: int) -> None:
        self.payloads.append(payload)
        self.attempts.append(attempts)
        self._changed.set()

    async def has(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.payloads) < count:
                self._changed.clear()
                await self._changed.wait()


async def test_a_job_is_part_of_the_transaction_that_puts_it(saver: TransactionalSaver) -> None:
    with suppress(ZeroDivisionError):
        async with saver.transaction() as tx:
            await saver.queue.put(tx, [Job("run", b"gone")])
            raise ZeroDivisionError
    assert await jobs(saver) == 0
    await put(saver, Job("run", b"there"))
    assert await jobs(saver) == 1


async def test_jobs_are_done_once_and_gone(saver: TransactionalSaver) -> None:
    did = Did()
    await put(saver, Job("run", b"before"))
    worker = Worker(saver, {"run": did})
    await did.has(1)
    await put(saver, *(Job("run", str(n).encode()) for n in range(50)))
    await did.has(51)
    await settled(saver)
    await worker.end()
    assert sorted(did.payloads) == sorted([b"before", *(str(n).encode() for n in range(50))])


async def test_greater_priorities_first_then_the_older(saver: TransactionalSaver) -> None:
    did = Did()
    await put(saver, Job("run", b"c"), Job("run", b"a", priority=9), Job("run", b"d"), Job("run", b"b", priority=9))
    worker = Worker(saver, {"run": did}, concurrency=1)
    await did.has(4)
    await worker.end()
    assert did.payloads == [b"a", b"b", b"c", b"d"]


async def test_a_job_of_a_key_that_waits_is_skipped(saver: TransactionalSaver) -> None:
    did = Did()
    await put(saver, Job("run", b"first", key="k"), Job("run", b"same call", key="k"))
    await put(saver, Job("run", b"second", key="k"), Job("run", b"other", key="l"))
    worker = Worker(saver, {"run": did})
    await did.has(2)
    await settled(saver)
    await put(saver, Job("run", b"third", key="k"))
    await did.has(3)
    await worker.end()
    assert sorted(did.payloads) == [b"first", b"other", b"third"]


async def test_a_delayed_job_waits(saver: TransactionalSaver, bank: Bank) -> None:
    did = Did()
    await put(saver, Job("run", b"later", delay=timedelta(hours=1)), Job("run", b"now"))
    worker = Worker(saver, {"run": did})
    await did.has(1)
    await settled_but(saver, 1)
    assert did.payloads == [b"now"]
    await bank.do("UPDATE runtime.queue_pgqueuer SET execute_after = now() - interval '1 s'")  # an hour later
    await did.has(2)
    await worker.end()


async def settled_but(saver: TransactionalSaver, count: int) -> None:
    async with asyncio.timeout(30):
        while await jobs(saver) != count:
            pass


async def test_again_comes_back_and_counts(saver: TransactionalSaver) -> None:
    did = Did()

    async def twice(payload: bytes, attempts: int) -> None:
        await did(payload, attempts)
        if attempts < 2:
            raise Again(timedelta(milliseconds=1))

    await put(saver, Job("run", b"x"))
    worker = Worker(saver, {"run": twice})
    await did.has(3)
    await settled(saver)
    await worker.end()
    assert did.attempts == [0, 1, 2]


async def test_a_handler_that_fails_loses_nothing(saver: TransactionalSaver, bank: Bank) -> None:
    did = Did()

    async def fails_first(payload: bytes, attempts: int) -> None:
        await did(payload, attempts)
        if attempts == 0:
            raise ValueError("no")

    await put(saver, Job("run", b"x"))
    worker = Worker(saver, {"run": fails_first})
    await did.has(2)
    await settled(saver)
    await worker.end()
    assert did.attempts == [0, 1]


async def test_a_handler_that_is_cancelled_from_inside_loses_nothing(saver: TransactionalSaver) -> None:
    did = Did()

    async def cancelled_first(payload: bytes, attempts: int) -> None:
        await did(payload, attempts)
        if attempts == 0:
            raise asyncio.CancelledError

    await put(saver, Job("run", b"x"))
    worker = Worker(saver, {"run": cancelled_first}, lease=3600)
    await did.has(2)
    await settled(saver)
    await worker.end()


async def test_jobs_of_other_kinds_are_left_to_others(saver: TransactionalSaver) -> None:
    did = Did()
    await put(saver, Job("unknown", b"x"), Job("run", b"y"))
    worker = Worker(saver, {"run": did})
    await did.has(1)
    await settled_but(saver, 1)
    await worker.end()
    assert did.payloads == [b"y"]


async def test_two_workers_share_the_jobs(saver: TransactionalSaver) -> None:
    did, both = Did(), asyncio.Barrier(2)

    async def meets(payload: bytes, attempts: int) -> None:
        async with asyncio.timeout(30):
            await both.wait()  # one of each worker, since each has one hand
        await did(payload, attempts)

    await put(saver, *(Job("run", str(n).encode()) for n in range(8)))
    workers = [Worker(saver, {"run": meets}, concurrency=1) for _ in range(2)]
    await did.has(8)
    await settled(saver)
    for worker in workers:
        await worker.end()
    assert len(did.payloads) == 8


async def test_what_is_under_way_ends_when_the_worker_stops(saver: TransactionalSaver) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    did = Did()

    async def slow(payload: bytes, attempts: int) -> None:
        begun.set()
        await may_end.wait()
        await did(payload, attempts)

    await put(saver, Job("run", b"under way"), Job("run", b"left"))
    worker = Worker(saver, {"run": slow}, concurrency=1)
    await begun.wait()
    worker.stop.set()
    await put(saver, Job("run", b"new"))
    may_end.set()
    await worker.end()
    assert did.payloads == [b"under way"]
    assert await jobs(saver) == 2


async def test_a_cancelled_worker_puts_its_jobs_back(saver: TransactionalSaver) -> None:
    begun = asyncio.Event()

    async def hangs(payload: bytes, attempts: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    await put(saver, Job("run", b"x"))
    first = Worker(saver, {"run": hangs}, lease=3600)
    await begun.wait()
    first.task.cancel()
    with suppress(asyncio.CancelledError):
        await first.task
    did = Did()
    second = Worker(saver, {"run": did}, lease=3600)
    await did.has(1)  # at once, and not when the lease has run out
    await second.end()


async def test_a_worker_that_dies_loses_its_jobs_when_its_lease_is_over(
    saver: TransactionalSaver, database_url: str
) -> None:
    """The other one's connections are cut: it gives no sign of life, and cannot put anything back."""
    begun = asyncio.Event()

    async def hangs(payload: bytes, attempts: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    await put(saver, Job("run", b"x"))
    async with TransactionalSaver.from_conn_string(database_url) as other:
        dead = Worker(other, {"run": hangs})
        await begun.wait()

        async def gone(_: Any) -> Any:
            await asyncio.Event().wait()

        other.database.autocommit = gone  # type: ignore[method-assign]
        did = Did()
        alive = Worker(saver, {"run": did})
        await did.has(1)
        await alive.end()
        dead.task.cancel()
        with suppress(asyncio.CancelledError):
            await dead.task


async def test_a_long_job_keeps_its_lease(saver: TransactionalSaver, bank: Bank) -> None:
    """It takes longer than the lease: nobody else gets it."""
    did = Did()
    looked = asyncio.Event()

    async def slow(payload: bytes, attempts: int) -> None:
        await did(payload, attempts)
        await looked.wait()

    await put(saver, Job("run", b"x"))
    workers = [Worker(saver, {"run": slow}, lease=0.5) for _ in range(2)]
    await did.has(1)
    beats = "SELECT heartbeat FROM runtime.queue_pgqueuer"
    (first,), seen = await bank.do(beats), set()
    async with asyncio.timeout(30):
        while len(seen) < 6:  # renewed for more than a lease
            (now,) = await bank.do(beats)
            seen |= {now["heartbeat"]} - {first["heartbeat"]}
    looked.set()
    for worker in workers:
        await worker.end()
    assert did.payloads == [b"x"]


async def test_one_connection_is_enough(database_url: str) -> None:
    """It cannot listen then, and looks by itself."""
    async with TransactionalSaver.from_conn_string(database_url, pool_max=1) as saver:
        await saver.setup()
        did = Did()
        worker = Worker(saver, {"run": did})
        await put(saver, Job("run", b"x"))
        await did.has(1)
        await worker.end()


async def test_it_survives_that_its_connections_are_cut(saver: TransactionalSaver, bank: Bank) -> None:
    did = Did()
    worker = Worker(saver, {"run": did})
    await put(saver, Job("run", b"x"))
    await did.has(1)
    await bank.do(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await put(saver, Job("run", b"y"))
    await did.has(2)
    await worker.end()


async def test_the_environment_does_not_redirect_it(
    saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch, bank: Bank
) -> None:
    from superstep.checkpointer.effects import backend

    backend.backend.cache_clear()
    for name in ("PREFIX", "SCHEMA", "QUEUE_TABLE", "CHANNEL", "QUEUE_TABLE_LOG", "QUEUE_STATUS_TYPE"):
        monkeypatch.setenv(f"PGQUEUER_{name}", "elsewhere")
    monkeypatch.setenv("PGQUEUER_DURABILITY", "volatile")
    monkeypatch.setenv("QUEUE_TABLE", "elsewhere")
    did = Did()
    await put(saver, Job("run", b"x"))
    assert await jobs(saver) == 1
    worker = Worker(saver, {"run": did})
    await did.has(1)
    await worker.end()
    backend.backend.cache_clear()


async def test_a_queue_of_the_users_own_is_another_one(saver: TransactionalSaver, database_url: str) -> None:
    from pgqueuer.queries import Queries

    conn = await asyncpg.connect(database_url)
    try:
        await conn.execute("SET search_path TO public")
        theirs = Queries.from_asyncpg_connection(conn)
        await theirs.install()
        await theirs.enqueue("run", b"theirs")
        did = Did()
        await put(saver, Job("run", b"ours"))
        worker = Worker(saver, {"run": did})
        await did.has(1)
        await settled(saver)
        await worker.end()
        assert did.payloads == [b"ours"]
        assert await conn.fetchval("SELECT count(*) FROM public.pgqueuer") == 1
    finally:
        await conn.close()


async def test_setup_makes_the_tables_and_does_nothing_more(empty_database_url: str) -> None:
    async with TransactionalSaver.from_conn_string(empty_database_url, schema="mine") as saver:
        await asyncio.gather(*(saver.setup() for _ in range(4)))
        async with saver.transaction() as tx:
            await saver.queue.check(tx)
        async with saver.database.connections.borrow() as conn:
            assert not await queue_module.install_queue(conn, "mine")


async def test_tables_of_another_version_are_named_and_mended_by_setup(saver: TransactionalSaver, bank: Bank) -> None:
    await put(saver, Job("run", b"kept"))
    await bank.do("ALTER TABLE runtime.queue_pgqueuer DROP COLUMN headers")
    with pytest.raises(QueueMismatch, match="runtime db migrate"):
        async with saver.transaction() as tx:
            await saver.queue.check(tx)
    with pytest.raises(QueueMismatch):
        await Worker(saver, {}).task
    await bank.do("UPDATE runtime.queue_release SET release = '1.5.9'")
    await saver.setup()
    did = Did()
    worker = Worker(saver, {"run": did})
    await did.has(1)
    await worker.end()


async def test_missing_tables_are_named(saver: TransactionalSaver, bank: Bank) -> None:
    await bank.do("DROP TABLE runtime.queue_pgqueuer")
    with pytest.raises(QueueMismatch):
        await Worker(saver, {}).task


async def test_a_schema_that_it_cannot_be_in_is_named(empty_database_url: str) -> None:
    async with TransactionalSaver.from_conn_string(empty_database_url, schema="My Schema") as saver:
        await saver.setup()
        with pytest.raises(ConfigError, match="My Schema"):
            saver.queue.statement([])
    async with TransactionalSaver.from_conn_string(empty_database_url, schema="user") as saver:
        await saver.setup()  # a reserved word: there are no tables
        with pytest.raises(ConfigError, match="reserved"):
            await Worker(saver, {}).task


@pytest.mark.parametrize(("concurrency", "lease"), [(0, 1.0), (1, 0.0)])
async def test_numbers_that_make_no_sense(saver: TransactionalSaver, concurrency: int, lease: float) -> None:
    with pytest.raises(ConfigError):
        await Worker(saver, {}, concurrency=concurrency, lease=lease).task
