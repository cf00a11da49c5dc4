"""Connections that are dropped on their way without a word, and statements that wait for what nobody gives."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints, leases, watch
from superstep.checkpointer.database.server import server_of
from superstep.runtime.faults import DatabaseUnavailable, PoolExhausted, ReadFailed
from tests.support.bank import BALANCE, DEBIT, Bank, make_bank
from tests.support.graphs import chain, config_of
from tests.support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other as fast as they can be told apart."""
    monkeypatch.setattr(watch, "_FIRST_LOOK", 0.1)
    monkeypatch.setattr(watch, "_LOOK_AGAIN", 0.1)
    monkeypatch.setattr(watch, "_ASK_SECONDS", 1.0)


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(database_url).running() as running:
        yield running


@pytest.fixture
async def far(proxy: TcpProxy) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(proxy.url, pool_min=3) as saver:
        await make_bank(saver)
        yield saver


async def debit(state: Any) -> Any:
    step = current_step()
    balance = await step.fetchval(BALANCE, 1)
    step.stage(DEBIT, 1, expect_rows=1)
    return {"n": balance}


async def test_a_run_after_all_connections_were_dropped_ends(proxy: TcpProxy, far: TransactionalSaver) -> None:
    flow = transactional(chain(far, debit))
    async with asyncio.timeout(30):
        for left in (100, 99, 98):
            assert (await flow.ainvoke({"n": 0}, config_of(f"t-{left}")))["n"] == left
            proxy.drop()
        assert await Bank(far).balance() == 97


@pytest.mark.parametrize("point", ["step.pinned", "commit.begun", "commit.staged", "commit.before_commit"])
async def test_a_connection_dropped_anywhere_in_a_step_is_noticed(
    proxy: TcpProxy, far: TransactionalSaver, point: str
) -> None:
    async def drop_once() -> None:
        failpoints.disarm(point)
        proxy.drop()

    failpoints.arm(point, drop_once)
    async with asyncio.timeout(30):
        assert (await transactional(chain(far, debit)).ainvoke({"n": 0}, config_of("t")))["n"] == 100
        assert await Bank(far).balance() == 99


async def test_without_any_way_to_the_server_it_ends_in_an_error(
    proxy: TcpProxy, far: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("superstep.checkpointer.database.server.CONNECT_SECONDS", 0.2)
    proxy.fall_silent()
    async with asyncio.timeout(40):
        with pytest.raises(DatabaseUnavailable, match="did not answer in 12 tries"):
            await chain(far, debit).ainvoke({"n": 0}, config_of("t"))


async def test_a_cancelled_run_on_a_dropped_connection_ends(proxy: TcpProxy, far: TransactionalSaver) -> None:
    reading = asyncio.Event()

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        proxy.drop()
        reading.set()
        return {"n": await current_step().fetchval(BALANCE, 2)}

    run = asyncio.create_task(transactional(chain(far, node)).ainvoke({"n": 0}, config_of("t")))
    async with asyncio.timeout(30):
        await reading.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run


async def test_a_long_statement_is_left_alone(saver: TransactionalSaver) -> None:
    """Ten times as long as it takes to notice a dropped connection."""

    async def node(state: Any) -> Any:
        await current_step().fetch("SELECT pg_sleep(4)")
        return {"n": 1}

    assert (await chain(saver, node).ainvoke({"n": 0}, config_of("t")))["n"] == 1
    (step,) = await saver.asteps("t")
    assert step.repairs == 0


async def test_a_wait_for_a_lock_ends_in_an_error(
    saver: TransactionalSaver, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_LOCK_SECONDS", 0.5)

    async def node(state: Any) -> Any:
        await current_step().fetch("SELECT pg_advisory_lock(4711)")
        return {"n": 1}

    other = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(60):
            await other.execute("BEGIN; LOCK TABLE runtime.thread")
            with pytest.raises(DatabaseUnavailable, match="waited too long for a lock"):
                await chain(saver, node).ainvoke({"n": 0}, config_of("t"))
            await other.execute("COMMIT; SELECT pg_advisory_lock(4711)")
            with pytest.raises(ReadFailed) as caught:
                await chain(saver, node).ainvoke({"n": 0}, config_of("t"))
    finally:
        other.terminate()
    assert caught.value.sqlstate == "57014"


async def test_copy_from_the_client_in_a_transaction_of_ones_own_is_cut(saver: TransactionalSaver) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(Exception, match="closed") as caught:
            async with saver.transaction() as tx:
                await tx.execute("COPY journal (line) FROM STDIN")
    assert not isinstance(caught.value, TimeoutError)
    assert await Bank(saver).journal() == []


async def test_code_that_takes_its_time_in_a_transaction_is_left_alone(
    saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, compare = asyncio.Semaphore(0), watch.Watch._compare

    async def counted(self: Any, late: Any) -> None:
        await compare(self, late)
        looks.release()

    monkeypatch.setattr(watch.Watch, "_compare", counted)
    async with asyncio.timeout(30), saver.transaction() as tx:
        await tx.execute("INSERT INTO journal (line) VALUES ('slow')")
        for _ in range(2 * watch._LOOKS):
            await looks.acquire()
        await tx.fetchval("SELECT 1")
    assert await Bank(saver).journal() == ["slow"]


async def test_a_queue_that_does_not_move_ends_in_an_error(
    saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_EXHAUSTED", 0.5)
    connections = saver.database.connections
    held = [await connections.acquire() for _ in range(10)]
    waits = [asyncio.create_task(connections.acquire()) for _ in range(3)]
    async with asyncio.timeout(20):
        for wait in waits:
            with pytest.raises(PoolExhausted, match="All 10 connections"):
                await wait
    for conn in held:
        await connections.give_back(conn)
    assert await Bank(saver).balance() == 100


async def test_a_queue_that_moves_is_waited_in(saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_EXHAUSTED", 2.0)
    connections = saver.database.connections
    held = [await connections.acquire() for _ in range(10)]
    waits = [asyncio.create_task(connections.acquire()) for _ in range(10)]
    for conn in held:  # altogether longer than the limit, each wait for one below it
        await asyncio.sleep(0.25)
        await connections.give_back(conn)
    for conn in await asyncio.gather(*waits):
        await connections.give_back(conn)


async def test_connections_out_of_use_are_retired(saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    async with saver.transaction() as tx:
        before = await tx.fetchval("SELECT pg_backend_pid()")
    async with saver.transaction() as tx:
        assert await tx.fetchval("SELECT pg_backend_pid()") == before
    monkeypatch.setattr(leases, "_RETIRE", 0.0)
    async with saver.transaction() as tx:
        assert await tx.fetchval("SELECT pg_backend_pid()") != before


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [("", (1, 30, 5, 3, 30_000)), ("?keepalives_idle=7&tcp_user_timeout=9000", (1, 7, 5, 3, 9000))],
)
async def test_tcp_looks_after_connections(proxy: TcpProxy, parameters: str, expected: tuple[int, ...]) -> None:
    conn = await server_of(proxy.url + parameters).connect()
    sock = conn._transport.get_extra_info("socket")
    options = (
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        *(
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        ),
    )
    await conn.close()
    assert options == expected
