"""Databases and pools that a saver is opened on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep.checkpointer import TransactionalSaver
from superstep.runtime.faults import (
    SchemaMissing,
)
from tests.support.graphs import chain, steps_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


async def test_a_database_without_tables_is_named(empty_database_url: str, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        return {"n": 1}

    async with TransactionalSaver.from_conn_string(empty_database_url) as saver:
        with pytest.raises(SchemaMissing, match=r"runtime db migrate"):
            await chain(saver, node).ainvoke({"n": 0}, thread)
        await saver.setup()
        assert (await chain(saver, node).ainvoke({"n": 0}, thread))["n"] == 1


async def test_a_pool_with_a_json_codec_of_its_own(database_url: str, thread: RunnableConfig) -> None:
    async def init(conn: Any) -> None:
        await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    async with asyncpg.create_pool(database_url, init=init, min_size=1, max_size=4) as pool:
        saver = TransactionalSaver(pool)

        async def node(state: Any) -> Any:
            return {"n": 1}

        graph = chain(saver, node)
        await graph.ainvoke({"n": 0}, thread)
        assert len([state async for state in graph.aget_state_history(thread)]) == 3
        assert [step.nodes for step in await steps_of(saver, thread)] == [["node"]]
        assert len([t async for t in saver.alist(thread, filter={"source": "loop"})]) == 2
        await saver.aclose()


async def test_a_connection_that_breaks_while_it_is_closed_is_no_failure_of_what_was_done(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may end a session between the last answer and the driver's goodbye."""
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        async with saver.transaction() as tx:
            assert await tx.fetchval("SELECT 1") == 1
        pool = saver.database.connections.pool

        async def breaks(*args: object, **kwargs: object) -> None:
            raise BrokenPipeError(32, "Broken pipe")

        monkeypatch.setattr(asyncpg.Connection, "close", breaks)
    assert pool.is_closing()
