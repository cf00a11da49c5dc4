"""What a flow sets in a session is gone when the next one uses the connection, and costs no round trip to take away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import StatementRefused
from tests.support.bank import BALANCE, DEBIT, make_bank
from tests.support.graphs import chain, config_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.runnables import RunnableConfig

FRESH = {
    "search_path": "SELECT current_setting('search_path') = '\"$user\", public'",
    "role": "SELECT current_user = session_user AND current_setting('role') = 'none'",
    "session user": "SELECT session_user = 'postgres'",
    "settings": "SELECT current_setting('work_mem') = '4MB' AND current_setting('TimeZone') <> 'Pacific/Auckland'",
    "own settings": "SELECT COALESCE(current_setting('app.tenant', true), '') = ''",
    "read only": "SELECT current_setting('default_transaction_read_only') = 'off'",
    "advisory locks": "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())",
    "temporary tables": "SELECT to_regclass('pg_temp.mine') IS NULL",
    "cursors": "SELECT NOT EXISTS (SELECT FROM pg_cursors WHERE name = 'mine')",
    "prepared": "SELECT NOT EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql)",
    "channels": "SELECT NOT EXISTS (SELECT FROM pg_listening_channels())",
}
LEAVES = [
    "SELECT set_config('search_path', 'elsewhere', false)",
    "SELECT set_config('app.tenant', 'a', false), set_config('work_mem', '5MB', false)",
    "SELECT set_config('TimeZone', 'Pacific/Auckland', false)",
    "SELECT set_config('default_transaction_read_only', 'on', false)",
    "SELECT set_config('role', 'pg_monitor', false)",
    "DO $$ BEGIN SET SESSION AUTHORIZATION pg_monitor; END $$",
    "SELECT pg_advisory_lock(1), pg_advisory_lock_shared(2)",
    "CREATE TEMPORARY TABLE mine (id int)",
    "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
    "DO $$ BEGIN EXECUTE 'PREPARE mine AS SELECT 1'; END $$",
    "DO $$ BEGIN EXECUTE 'LISTEN mine'; END $$",
    "INSERT INTO journal (line) VALUES (set_config('search_path', 'elsewhere', false))",
]
ENDS = ("direct", "replay", "rejected", "no commit")


@pytest.fixture
async def narrow(database_url: str) -> AsyncIterator[TransactionalSaver]:
    """One connection, which the next one therefore gets."""
    async with TransactionalSaver.from_conn_string(database_url, pool_max=1) as saver:
        await make_bank(saver)
        yield saver


async def fresh(saver: TransactionalSaver) -> list[str]:
    """What is not as it was in the beginning; asked in a super-step."""
    found: list[str] = []

    async def node(state: Any) -> Any:
        for name, sql in FRESH.items():
            if not await current_step().fetchval(sql):
                found.append(name)
        return {"n": 1}

    await chain(saver, node).ainvoke({"n": 0}, config_of("after"))
    return found


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("sql", LEAVES)
async def test_nothing_that_a_staged_write_sets_outlives_it(narrow: TransactionalSaver, sql: str, end: str) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        if end in ("replay", "direct"):
            await step.fetchval(BALANCE, 1)
        step.stage(sql)
        if end == "rejected":
            step.stage("SELECT 1 / 0")
        if end == "no commit":
            step.stage("DELETE FROM account WHERE id = 1", expect_rows=7)
        if end == "replay":
            await narrow.athread("nobody")  # takes the connection: the transaction of the reads is given back
        return {"n": 1}

    try:
        await chain(narrow, node).ainvoke({"n": 0}, config_of("t"))
    except asyncpg.InsufficientPrivilegeError:
        assert "pg_monitor" in sql  # nor may that role write checkpoints
    except Exception:
        assert end in ("rejected", "no commit")
    assert await fresh(narrow) == []


@pytest.mark.parametrize("sql", [sql for sql in LEAVES if sql.startswith("SELECT")])
async def test_nothing_that_a_read_sets_outlives_it(narrow: TransactionalSaver, sql: str) -> None:
    async def node(state: Any) -> Any:
        await current_step().fetch(sql)
        return {"n": 1}

    await chain(narrow, node).ainvoke({"n": 0}, config_of("t"))
    assert await fresh(narrow) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_that_a_transaction_of_ones_own_sets_outlives_it(narrow: TransactionalSaver, fails: bool) -> None:
    for sql in (
        *LEAVES,
        "PREPARE mine AS SELECT 1",
        "LISTEN mine",
        "SET search_path = elsewhere",
        "SET ROLE pg_monitor",
    ):
        try:
            async with narrow.transaction() as tx:
                await tx.execute(sql)
                if fails:
                    await tx.execute("SELECT 1 / 0")
        except asyncpg.DivisionByZeroError:
            assert fails
        assert await fresh(narrow) == [], sql


async def test_settings_of_the_url_stay(database_url: str) -> None:
    url = f"{database_url}&work_mem=7MB&options=-c%20search_path%3Dmine&application_name=bank"
    async with TransactionalSaver.from_conn_string(url, pool_max=1) as saver:

        async def move(state: Any) -> Any:
            current_step().stage("SELECT set_config('work_mem', '5MB', false), set_config('search_path', 'x', false)")
            return {"n": 1}

        await chain(saver, move).ainvoke({"n": 0}, config_of("t"))
        async with saver.transaction() as tx:
            shown = [await tx.fetchval(f"SHOW {name}") for name in ("work_mem", "search_path", "application_name")]
    assert shown == ["7MB", "mine", "bank"]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY journal FROM STDIN",
        "copy journal (line) to stdout",
        "/* a /* nested */ comment */ -- and another\n COPY journal FROM STDIN WITH (FORMAT csv)",
        ";COPY (SELECT 1) TO STDOUT",
        "COPY journal FROM/**/STDIN",
        "LISTEN mine",
        "UNLISTEN *",
        "LOAD 'auto_explain'",
        "DEALLOCATE ALL",
        "EXECUTE mine",
    ],
)
async def test_what_needs_another_protocol_or_a_session_is_refused(
    saver: TransactionalSaver, thread: RunnableConfig, sql: str
) -> None:
    async def node(state: Any) -> Any:
        current_step().stage(sql)
        return {"n": 1}

    with pytest.raises(StatementRefused, match=r"make the server wait for data|is about the session"):
        await chain(saver, node).ainvoke({"n": 0}, thread)


async def test_copy_to_and_from_files_of_the_server_is_for_the_server_to_judge(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        current_step().stage("COPY (SELECT 'stdin') TO PROGRAM 'cat > /dev/null'")
        return {"n": 1}

    assert (await chain(saver, node).ainvoke({"n": 0}, thread))["n"] == 1


async def test_a_connection_whose_prepared_statements_are_gone_is_replaced(
    narrow: TransactionalSaver, new_thread: Any
) -> None:
    """As behind a proxy that nothing tells of, or after DEALLOCATE ALL."""

    async def node(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        step.stage(DEBIT, 1, expect_rows=1)
        return {"n": balance}

    for left in (100, 99, 98):
        assert (await chain(narrow, node).ainvoke({"n": 0}, new_thread()))["n"] == left
        async with narrow.database.connections.borrow() as conn:
            await conn.execute("DEALLOCATE ALL")
