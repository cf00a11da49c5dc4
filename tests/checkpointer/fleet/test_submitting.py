"""A run exists exactly if its submitter's transaction does, and is stored as the saver stores state."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from superstep.checkpointer import Order, Request, TransactionalSaver
from superstep.runtime.faults import ConfigError, ValueNotAuthentic, ValueNotSerializable
from tests.checkpointer.fleet.conftest import GRAPH

if TYPE_CHECKING:
    from superstep.checkpointer import Fleet
    from tests.checkpointer.fleet.conftest import Claim


async def rows(saver: TransactionalSaver, sql: str, *args: Any) -> list[Any]:
    async with saver.transaction() as tx:
        return list(await tx.fetch(sql, *args))


async def test_a_run_exists_if_and_only_if_the_callers_commit_does(
    saver: TransactionalSaver, fleet: Fleet, database_url: str
) -> None:
    conn = await asyncpg.connect(database_url)
    try:
        transaction = conn.transaction(isolation="serializable")
        await transaction.start()
        await fleet.submit(GRAPH, {"n": 1}, conn=conn)
        assert await fleet.runs() == []
        await transaction.rollback()
        assert await rows(saver, "SELECT FROM runtime.queued_run") == []
        assert await rows(saver, "SELECT FROM runtime.queue_pgqueuer") == []
        async with conn.transaction():
            thread = await fleet.submit(GRAPH, {"n": 1}, conn=conn)
            assert await fleet.runs() == []
    finally:
        await conn.close()
    (run,) = await fleet.runs()
    assert (run.thread_id, run.state, run.graph) == (thread, "queued", GRAPH)
    assert len(await rows(saver, "SELECT FROM runtime.queue_pgqueuer")) == 1


async def test_what_it_is_entered_with_comes_back_as_it_was(
    saver: TransactionalSaver, fleet: Fleet, claim: Claim
) -> None:
    request = Request({"messages": [HumanMessage("hi", id="1")]}, {"configurable": {"user": "Ada"}}, {"tone": "dry"})
    await fleet.submit(GRAPH, request.input, config=request.config, context=request.context)
    (run,) = await claim()
    assert fleet.request(run, saver.serde) == request


async def test_what_would_not_come_back_is_refused_and_nothing_is_stored(fleet: Fleet) -> None:
    with pytest.raises(ValueNotSerializable):
        await fleet.submit(GRAPH, {"n": object()})
    with pytest.raises(ConfigError):
        await fleet.submit(GRAPH, {}, tenant="a\0b")
    assert await fleet.runs() == []


async def test_many_are_submitted_at_once_in_their_order(fleet: Fleet, claim: Claim) -> None:
    orders = [Order(GRAPH, Request({"n": n}), thread=f"t-{n}") for n in range(500)]
    assert await fleet.submit_all(orders) == [f"t-{n}" for n in range(500)]
    assert [run.thread_id for run in await claim(500)] == [f"t-{n}" for n in range(500)]


async def test_a_run_that_is_delayed_waits(saver: TransactionalSaver, fleet: Fleet, claim: Claim) -> None:
    await fleet.submit(GRAPH, {}, delay=timedelta(hours=1))
    assert await claim() == []
    await rows(saver, "UPDATE runtime.queued_run SET due_at = due_at - interval '1 hour'")
    assert len(await claim()) == 1


async def test_an_encrypted_request_says_nothing_and_stands_for_its_own_run_only(database_url: str) -> None:
    plain = JsonPlusSerializer(allowed_msgpack_modules=None)
    serde = EncryptedSerializer.from_pycryptodome_aes(plain, key=b"0123456789abcdef")
    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:
        await saver.setup()
        for word in ("rosebud", "sled"):
            await saver.fleet.submit(GRAPH, {"word": word})
        stored = await rows(saver, "SELECT request FROM runtime.queued_run")
        assert not any(b"rosebud" in row["request"] or b"sled" in row["request"] for row in stored)
        await rows(
            saver,
            "UPDATE runtime.queued_run SET request = (SELECT request FROM runtime.queued_run ORDER BY nr LIMIT 1)",
        )
        first, second = await saver.fleet.claim(saver.runs.worker.id, [GRAPH], 2, 60.0)
        assert saver.fleet.request(first, saver.serde).input == {"word": "rosebud"}
        with pytest.raises(ValueNotAuthentic):
            saver.fleet.request(second, saver.serde)
        await saver.fleet.end(first, "failed", "ValueError: rosebud")
        (held,) = await rows(saver, "SELECT error FROM runtime.queued_run WHERE error IS NOT NULL")
        assert "rosebud" not in held["error"]
        assert "ValueError: rosebud" in [run.error for run in await saver.fleet.runs()]
    async with TransactionalSaver.from_conn_string(database_url) as keyless:
        assert "(encrypted)" in [run.error for run in await keyless.fleet.runs()]
        with pytest.raises(ValueNotAuthentic, match="no key"):
            keyless.fleet.request(first, keyless.serde)


async def test_deleting_a_thread_takes_its_runs_along(saver: TransactionalSaver, fleet: Fleet, claim: Claim) -> None:
    thread = await fleet.submit(GRAPH, {})
    (run,) = await claim()
    await saver.adelete_thread(thread)
    assert await fleet.runs() == []
    assert await fleet.end(run, "completed") is False


async def test_what_could_not_be_stored_is_refused_by_name(fleet: Fleet) -> None:
    for odd in ({"priority": 2**31}, {"delay": timedelta(days=999_999)}):
        with pytest.raises(ConfigError, match="cannot wait"):
            await fleet.submit(GRAPH, {}, **odd)


async def test_an_answer_that_waits_names_its_question(fleet: Fleet) -> None:
    """When its turn comes the thread may ask another one."""
    for unnamed in ("yes", False, {"approved": True}):
        with pytest.raises(ConfigError, match="which question"):
            await fleet.submit(GRAPH, Command(resume=unnamed), thread="t")
    await fleet.submit(GRAPH, Command(resume={"0" * 32: "yes"}), thread="t")
    await fleet.submit(GRAPH, Command(update={"n": 1}), thread="t")
    assert len(await fleet.runs()) == 2
