"""Connections that are lost during a step, and answers to COMMIT that never come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from tests.support.bank import BALANCE, LOG, SET
from tests.support.graphs import chain
from tests.support.internals import connection_of_open_step, give_back
from tests.support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_the_lost_answer_to_commit_is_looked_up_not_guessed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    lost = 0

    async def lose_it() -> None:
        nonlocal lost
        lost += 1
        raise asyncpg.ConnectionDoesNotExistError

    failpoints.arm("commit.lost_answer", lose_it)

    async def node(state: Any) -> Any:
        current_step().stage("UPDATE account SET balance = balance - 1 WHERE id = 1", expect_rows=1)
        return {"n": 1}

    assert (await chain(saver, node).ainvoke({}, thread))["n"] == 1
    assert lost == 1
    assert await bank.balance() == 99


@pytest.mark.parametrize("point", ["step.pinned", "commit.begun", "commit.validated", "commit.staged"])
async def test_a_connection_killed_anywhere_in_the_step_is_repaired(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, point: str
) -> None:
    runs = 0

    async def kill_once() -> None:
        failpoints.disarm(point)
        await bank.do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    failpoints.arm(point, kill_once)

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        step.stage(SET, balance - 1, 1, expect_rows=1)
        return {"n": balance}

    assert (await chain(saver, node).ainvoke({}, thread, durability="sync"))["n"] == 100
    assert runs == 1
    assert await bank.balance() == 99


async def test_a_commit_that_lands_late_is_not_applied_twice(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The answer to COMMIT is lost, the look-up comes before the server is done, and only then the COMMIT lands."""
    late: list[asyncio.Task[None]] = []

    async def land(conn: Any) -> None:
        await bank.lock_waited_for()  # until our own repetition waits for it
        await conn.execute("COMMIT")
        await give_back(saver, conn)

    async def lose() -> None:
        if conn := connection_of_open_step(saver):
            failpoints.disarm("commit.before_commit")
            late.append(asyncio.create_task(land(conn)))
            raise asyncpg.ConnectionDoesNotExistError

    async def node(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "once")
        return {"n": 1}

    failpoints.arm("commit.before_commit", lose)
    assert (await chain(saver, node).ainvoke({"n": 0}, thread, durability="sync"))["n"] == 1
    await late[0]
    assert await bank.journal() == ["once"]


# The COMMIT of what updates accounts lasts until an advisory lock is free.
SLOW = (
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END $$; "
    "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE OR INSERT ON account DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION slow()"
)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("reads", "write"),
    [
        (False, "UPDATE account SET balance = balance - 70 WHERE id = 1"),  # again, it would break a rule of the table
        (False, "INSERT INTO account VALUES (6, 30)"),  # ... it would collide with itself
        (False, "UPDATE account SET balance = 30 WHERE id = 1 AND balance = 100"),  # ... it would touch no row
        (True, "UPDATE account SET balance = balance - 70 WHERE id = 1"),  # what had been read is what it has written
    ],
)
async def test_a_commit_that_is_under_way_when_its_connection_is_lost_is_waited_for(
    bank: Bank, database_url: str, thread: RunnableConfig, write: str, *, reads: bool, nested: bool, wrap: bool
) -> None:
    runs: list[str] = []

    async def node(state: Any) -> Any:
        runs.append("node")
        step = current_step()
        if reads:
            await step.fetchval(BALANCE, 1)
        step.stage(write, expect_rows=1)
        return {"n": 1}

    async def caller(state: Any) -> Any:
        runs.append("caller")
        return {"n": (await chain(None, node).ainvoke({"n": 0}))["n"]}

    async with bank.saver.database.connections.borrow() as conn:
        await conn.execute(SLOW)
    async with (
        TcpProxy(database_url).running() as proxy,
        TransactionalSaver.from_conn_string(proxy.url) as saver,
        bank.saver.transaction() as holder,
    ):
        await holder.execute("SELECT pg_advisory_lock(7)")
        graph = chain(saver, caller if nested else node)
        run = asyncio.create_task((transactional(graph) if wrap else graph).ainvoke({"n": 0}, thread))
        await bank.waited_for("locktype = 'advisory'")
        proxy.cut()
        await bank.waited_for("locktype <> 'advisory'")
        await holder.execute("SELECT pg_advisory_unlock(7)")
        assert (await run)["n"] == 1
    assert runs == (["caller", "node"] if nested else ["node"])
    assert min(row["balance"] for row in await bank.do("SELECT balance FROM account")) == 30
