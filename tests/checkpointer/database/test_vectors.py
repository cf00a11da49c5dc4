"""pgvector is needed by what uses vectors, and by nothing else."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from langgraph.types import Command, interrupt
from pgvector import Vector

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database.migrate import migrate, pending
from superstep.checkpointer.database.pool import open_pool
from superstep.runtime.faults import ExtensionMissing, ReadFailed, RuntimeFault
from tests.support.graphs import chain, config_of
from tests.support.stock import stock_admin, stock_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["stock_admin", "stock_url"]


@asynccontextmanager
async def prepared(url: str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(url) as saver:
        await saver.setup()
        yield saver


async def searched(saver: TransactionalSaver, **how: Any) -> RuntimeFault:
    """What a node gets that searches."""

    async def node(state: Any) -> Any:
        await current_step().nearest("note", embedding=[1.0, 2.0], k=1, **how)

    with pytest.raises(RuntimeFault) as caught:
        await chain(saver, node).ainvoke({"n": 0}, config_of(uuid.uuid4().hex))
    return caught.value


async def test_a_stock_server_takes_all_migrations(stock_url: str) -> None:
    connection = await asyncpg.connect(stock_url)
    try:
        before = await connection.fetchval("SHOW search_path")
        assert await migrate(connection) == await migrate(connection, "another")
        assert await pending(connection) == await migrate(connection) == []
        assert await connection.fetchval("SHOW search_path") == before
        assert await connection.fetchval("SELECT array_agg(extname::text) FROM pg_extension") == ["plpgsql"]
    finally:
        await connection.close()


async def test_runs_conflicts_and_questions_need_no_vectors(stock_url: str) -> None:
    async def draw(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval("SELECT balance FROM account")
        answer = interrupt({"balance": balance})
        step.stage("UPDATE account SET balance = $1", balance - answer, expect_rows=1)
        return {"n": answer}

    async with prepared(stock_url) as saver:
        async with saver.transaction() as tx:
            await tx.execute("CREATE TABLE account AS SELECT 100 AS balance")
        graph = chain(saver, draw)
        await graph.ainvoke({"n": 0}, config_of("t"))
        assert (await graph.ainvoke(Command(resume=30), config_of("t")))["n"] == 30
        async with saver.transaction() as tx:
            assert await tx.fetchval("SELECT balance FROM account") == 70
        assert [thread.thread_id for thread in await saver.athreads()] == ["t"]
        (step,) = [step for step in await saver.asteps("t") if step.nodes]
        assert (step.reads, step.writes) == (1, 1)


async def test_a_search_names_what_a_stock_server_lacks(stock_url: str) -> None:
    async with prepared(stock_url) as saver:
        error = await searched(saver)
        assert isinstance(error, ExtensionMissing)
        assert "server has no pgvector" in str(error)
        assert "Install it" in str(error)
        assert "embedded" in str(error)
        with pytest.raises(ExtensionMissing, match="server has no pgvector"):
            await saver.arequire_vectors()


async def test_a_node_may_do_without_search(stock_url: str) -> None:
    async def node(state: Any) -> Any:
        try:
            await current_step().nearest("note", embedding=[1.0], k=1)
        except ExtensionMissing:
            return {"n": 7}

    async with prepared(stock_url) as saver:
        assert (await chain(saver, node).ainvoke({"n": 0}, config_of("t")))["n"] == 7


async def test_an_extension_that_the_user_may_not_create_is_left_out(empty_database_url: str, admin: Any) -> None:
    if "//postgres@" not in empty_database_url:
        pytest.skip("needs a server that lets a new role in without a password")
    role = f"plain_{uuid.uuid4().hex}"
    owner = await asyncpg.connect(empty_database_url)
    try:
        await owner.execute(f"CREATE ROLE {role} LOGIN; CREATE SCHEMA runtime AUTHORIZATION {role}")
        async with prepared(empty_database_url.replace("//postgres@", f"//{role}@")) as saver:
            error = await searched(saver)
            assert isinstance(error, ExtensionMissing)
            assert "superuser" in str(error)
            with pytest.raises(ExtensionMissing, match="CREATE EXTENSION vector"):
                await saver.arequire_vectors()
            await owner.execute("CREATE EXTENSION vector; CREATE TABLE note (id int, content text, metadata jsonb, "
                                "embedding vector(2)); GRANT SELECT ON note TO public")  # fmt: skip
            await owner.execute("INSERT INTO note VALUES (1, 'c', '{}', '[1,2]')")
            await saver.arequire_vectors()
            found: list[Any] = []

            async def node(state: Any) -> Any:
                found.extend(await current_step().nearest("note", embedding=[1.0, 2.0], k=1))
                found.append(await current_step().fetchval("SELECT embedding FROM note"))
                return {"n": 1}

            await chain(saver, node).ainvoke({"n": 0}, config_of("t"))
            assert found[0]["id"] == 1
            assert found[1] == Vector([1, 2])
    finally:
        await owner.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
        await owner.close()


async def test_an_extension_in_a_schema_that_is_not_looked_in_is_named(empty_database_url: str) -> None:
    owner = await asyncpg.connect(empty_database_url)
    try:
        await owner.execute("CREATE SCHEMA far; CREATE EXTENSION vector SCHEMA far")
    finally:
        await owner.close()
    async with prepared(empty_database_url) as saver:
        error = await searched(saver)
        assert isinstance(error, ExtensionMissing)
        assert "schema 'far'" in str(error)


async def test_another_undefined_thing_is_not_blamed_on_pgvector(database_url: str) -> None:
    async with prepared(database_url) as saver:
        async with saver.transaction() as tx:
            await tx.execute("CREATE TABLE note (id int, content text, metadata jsonb, embedding vector(2))")
        error = await searched(saver, where="content::no_such_type IS NULL")
        assert isinstance(error, ReadFailed)
        assert error.sqlstate == "42704"


async def test_codecs_are_registered_where_there_are_vectors(stock_url: str, database_url: str) -> None:
    for url, there in ((stock_url, False), (database_url, True)):
        pool, _ = await open_pool(url, min_size=1, max_size=1)
        try:
            assert (await pool.fetchval("SELECT to_regtype('vector')::text") is not None) == there
            if there:
                assert await pool.fetchval("SELECT $1::vector", [1, 2]) == Vector([1, 2])
        finally:
            await pool.close()
