"""Threads of LangGraph's own Postgres saver: the same history here, and they go on as they would have gone on there."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, import_threads
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import DatabaseUnavailable, InputInvalid
from tests.support.graphs import config_of
from tests.support.stored_by_langgraph import SHAPES, Shape, begin, go_on, history, langgraphs_saver, objects

if TYPE_CHECKING:
    from superstep.checkpointer import ImportOutcome
    from tests.support.bank import Bank

BY_NAME = {shape.name: shape for shape in SHAPES}
KEY = b"0123456789abcdef"


def encrypting(**more: Any) -> EncryptedSerializer:
    return EncryptedSerializer.from_pycryptodome_aes(JsonPlusSerializer(allowed_msgpack_modules=None), key=KEY, **more)


async def statuses(saver: TransactionalSaver) -> dict[str, str]:
    return {each.thread_id: each.status for each in await saver.athreads(100)}


def rows(url: str) -> dict[str, list[Any]]:
    """All that LangGraph's tables hold."""
    with psycopg.connect(url) as conn:
        return {
            table: conn.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4, 5").fetchall()
            for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
        }


@pytest.mark.parametrize("kind", ["plain", "flow", "encrypted"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_a_thread_has_its_history_and_goes_on_as_it_would_have(
    shape: Shape, kind: str, database_url: str, empty_database_url: str
) -> None:
    serde = encrypting() if kind == "encrypted" else None
    async with (
        langgraphs_saver(empty_database_url) as old,
        TransactionalSaver.from_conn_string(database_url, serde=serde) as saver,
    ):
        await begin(shape, old)
        there, plain = shape.make(old), shape.make(saver)
        here = transactional(plain) if kind == "flow" else plain
        done = await import_threads(saver, empty_database_url, graph=plain, name="g")
        assert done.threads["imported"] == 1, done
        assert done.read == done.stored
        assert done.read.checkpoints > 1
        assert await statuses(saver) == {shape.name: shape.status}
        before = await history(there, shape.name)
        assert await history(here, shape.name) == before
        if kind == "flow":  # it has a name for the graph of its own, and so had the thread until it was run
            here = shape.make(saver)
        result = await go_on(shape, there)
        assert await go_on(shape, here) == result
        after, ours = await history(there, shape.name), await history(here, shape.name)
        assert len(after) > len(before)
        assert [each["values"] for each in ours] == [each["values"] for each in after]
        assert [each["next"] for each in ours] == [each["next"] for each in after]
        assert [each["metadata"] for each in ours] == [
            {**each["metadata"], "parents": mine["metadata"]["parents"]} for each, mine in zip(after, ours, strict=True)
        ]


async def test_all_of_them_at_once_page_by_page_and_nothing_is_touched_there(
    saver: TransactionalSaver, empty_database_url: str
) -> None:
    async with langgraphs_saver(empty_database_url) as old:
        for shape in SHAPES:
            await begin(shape, old)
    before = rows(empty_database_url)
    outcomes: list[ImportOutcome] = []
    expected: list[int] = []
    done = await import_threads(
        saver, empty_database_url, graph=objects(None), batch=2, told=outcomes.append, counted=expected.append
    )
    assert expected == [len(SHAPES)]
    assert {each.thread_id: each.kind for each in outcomes} == dict.fromkeys(BY_NAME, "imported")
    assert done.stored == (len(before["checkpoints"]), len(before["checkpoint_writes"]))
    assert rows(empty_database_url) == before
    again = await import_threads(saver, empty_database_url, graph=objects(None))
    assert again.threads == {"imported": 0, "continued": 0, "there": len(SHAPES), "changed": 0, "refused": 0}
    assert again.stored.checkpoints == 0
    assert await statuses(saver) == {shape.name: shape.status for shape in SHAPES}


async def test_a_dry_run_says_the_same_and_stores_nothing(saver: TransactionalSaver, empty_database_url: str) -> None:
    async with langgraphs_saver(empty_database_url) as old:
        for name in ("finished", "nested", "objects"):
            await begin(BY_NAME[name], old)
    dry = await import_threads(saver, empty_database_url, dry_run=True)
    assert await statuses(saver) == {}
    wet = await import_threads(saver, empty_database_url)
    assert (dry.threads, dry.read, dry.stored, dry.refused) == (wet.threads, wet.read, wet.stored, wet.refused)
    assert [each.thread_id for each in wet.refused] == ["objects"]


async def test_a_value_that_would_not_come_back_is_named_and_the_others_go_on(
    saver: TransactionalSaver, empty_database_url: str
) -> None:
    async with langgraphs_saver(empty_database_url) as old:
        await begin(BY_NAME["finished"], old)
        await begin(BY_NAME["objects"], old)
        await begin(BY_NAME["failed"], old)
    done = await import_threads(saver, empty_database_url, threads=["objects", "finished", "no-such", "failed"])
    assert done.threads["imported"] == 2
    why = {each.thread_id: each.why for each in done.refused}
    assert "tests.support.stored_by_langgraph.Hand" in why["objects"] or "Card" in why["objects"]
    assert "channel" in why["objects"]
    assert "no such thread" in why["no-such"]
    assert set(await statuses(saver)) == {"finished", "failed"}
    async with saver.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM runtime.thread WHERE thread_id IN ('objects', 'no-such')") == 0
        assert await tx.fetchval("SELECT count(*) FROM runtime.channel_value WHERE thread_id = 'objects'") == 0


async def test_what_has_come_to_a_thread_there_since_is_added(
    saver: TransactionalSaver, empty_database_url: str
) -> None:
    chat, asked = BY_NAME["finished"], BY_NAME["interrupted"]
    async with langgraphs_saver(empty_database_url) as old:
        await begin(chat, old)
        for each in asked.inputs:  # each import meets the thread one question later
            await begin(asked._replace(inputs=[each]), old)
            await import_threads(saver, empty_database_url)
            assert (await history(asked.make(saver), asked.name)) == (await history(asked.make(old), asked.name))
        await go_on(chat, chat.make(old))
        done = await import_threads(saver, empty_database_url)
        assert (done.threads["continued"], done.threads["there"]) == (1, 1)
        assert await history(chat.make(saver), chat.name) == await history(chat.make(old), chat.name)


async def test_a_thread_that_was_run_here_is_left_as_it_is(saver: TransactionalSaver, empty_database_url: str) -> None:
    chat, asked = BY_NAME["finished"], BY_NAME["interrupted"]
    async with langgraphs_saver(empty_database_url) as old:
        for shape in (chat, asked):
            await begin(shape, old)
        await import_threads(saver, empty_database_url)
        for shape in (chat, asked):
            await go_on(shape, shape.make(saver))
            await go_on(shape, shape.make(old))
        before = [await history(shape.make(saver), shape.name) for shape in (chat, asked)]
        done = await import_threads(saver, empty_database_url)
        assert {each.thread_id for each in done.changed} == {chat.name, asked.name}
        assert [await history(shape.make(saver), shape.name) for shape in (chat, asked)] == before


async def test_a_claim_alone_is_a_change(saver: TransactionalSaver, empty_database_url: str) -> None:
    """A run that has begun here, and has stored no checkpoint yet."""
    failing = BY_NAME["failed"]
    async with langgraphs_saver(empty_database_url) as old:
        await begin(failing, old)
        await import_threads(saver, empty_database_url)
        with pytest.raises(ValueError, match="disk"):
            await failing.make(saver).ainvoke(None, config_of("failed"))
        await go_on(failing, failing.make(old))
        done = await import_threads(saver, empty_database_url)
    assert [each.thread_id for each in done.changed] == ["failed"]


@pytest.mark.parametrize("serde_there", ["plain", "encrypted"])
async def test_an_encrypting_saver_stores_nothing_readable(
    serde_there: str, database_url: str, empty_database_url: str
) -> None:
    there = EncryptedSerializer.from_pycryptodome_aes(key=KEY) if serde_there == "encrypted" else None
    shape = BY_NAME["failed"]
    async with (
        langgraphs_saver(empty_database_url, serde=there) as old,
        TransactionalSaver.from_conn_string(database_url, serde=encrypting()) as saver,
    ):
        await begin(shape._replace(inputs=[{"log": ["secret"]}]), old)
        await import_threads(saver, empty_database_url, serde=there)
        assert await history(shape.make(saver), "failed") == await history(shape.make(old), "failed")
        async with saver.transaction() as tx:
            for table in ("thread", "checkpoint", "channel_value", "task_write"):
                for row in await tx.fetch(f"SELECT t.* FROM runtime.{table} t"):
                    text = str(dict(row))
                    assert "secret" not in text, table
                    assert "disk is full" not in text, table
            kinds = await tx.fetch("SELECT kind FROM runtime.task_write UNION SELECT kind FROM runtime.checkpoint")
        assert {row["kind"].partition("+")[2] for row in kinds} == {"aes"}


async def test_what_is_encrypted_there_needs_the_key(saver: TransactionalSaver, empty_database_url: str) -> None:
    there = EncryptedSerializer.from_pycryptodome_aes(key=KEY)
    async with langgraphs_saver(empty_database_url, serde=there) as old:
        await begin(BY_NAME["failed"], old)
    done = await import_threads(saver, empty_database_url)
    assert "encrypted" in done.refused[0].why
    done = await import_threads(saver, empty_database_url, serde=there)
    assert done.threads["imported"] == 1


async def test_two_imports_at_once_store_each_thread_once(
    saver: TransactionalSaver, bank: Bank, empty_database_url: str
) -> None:
    """The second one meets the first's row before that is committed, and waits for it."""
    async with langgraphs_saver(empty_database_url) as old:
        await begin(BY_NAME["finished"], old)
    begun, go = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        begun.set()
        await go.wait()

    failpoints.arm("import.begun", pause)
    first = asyncio.create_task(import_threads(saver, empty_database_url))
    await begun.wait()
    failpoints.disarm("import.begun")
    second = asyncio.create_task(import_threads(saver, empty_database_url))
    await bank.waited_for("locktype = 'transactionid'")
    go.set()
    done = [await first, await second]
    assert [each.threads["imported"] for each in done] == [1, 0]
    assert [each.threads["there"] for each in done] == [0, 1]


async def test_checkpoints_of_before_sends_were_a_channel(saver: TransactionalSaver, empty_database_url: str) -> None:
    """As LangGraph shows them: what was sent is read from the writes of the tasks before."""
    shape = BY_NAME["fan_out"]
    async with langgraphs_saver(empty_database_url) as old:
        await begin(shape, old)
        with psycopg.connect(empty_database_url, autocommit=True) as conn:
            conn.execute(
                "UPDATE checkpoints SET checkpoint = jsonb_set(checkpoint, '{v}', '3') "
                "#- '{channel_versions,__pregel_tasks}' #- '{channel_values,__pregel_tasks}'"
            )
            conn.execute("DELETE FROM checkpoint_blobs WHERE channel = '__pregel_tasks'")
        await import_threads(saver, empty_database_url)
        theirs = [each async for each in old.alist(config_of("fan_out"))]
        ours = [each async for each in saver.alist(config_of("fan_out"))]
        assert [each.checkpoint for each in ours] == [each.checkpoint for each in theirs]
        assert sum("__pregel_tasks" in each.checkpoint["channel_values"] for each in ours) == 1
        assert await go_on(shape, shape.make(saver)) == await go_on(shape, shape.make(old))


async def test_writes_of_checkpoints_that_are_not_there_are_left_out_and_counted(
    saver: TransactionalSaver, empty_database_url: str
) -> None:
    async with langgraphs_saver(empty_database_url) as old:
        await begin(BY_NAME["finished"], old)
        place = {"thread_id": "finished", "checkpoint_ns": "", "checkpoint_id": "0000"}
        await old.aput_writes({"configurable": place}, [("text", "lost")], "task")
    done = await import_threads(saver, empty_database_url)
    assert (done.strays, done.threads["imported"]) == (1, 1)
    assert (await import_threads(saver, empty_database_url)).threads["there"] == 1


async def test_what_is_no_table_of_langgraphs_is_named(saver: TransactionalSaver, empty_database_url: str) -> None:
    with pytest.raises(InputInvalid, match="no table `checkpoints`"):
        await import_threads(saver, empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute("CREATE TABLE checkpoints (thread_id text, checkpoint jsonb)")
    with pytest.raises(InputInvalid, match="ShallowPostgresSaver"):
        await import_threads(saver, empty_database_url)
    with pytest.raises(DatabaseUnavailable):
        await import_threads(saver, "postgresql://nobody@127.0.0.1:1/none")


async def test_metadata_that_can_be_filtered_by(saver: TransactionalSaver, empty_database_url: str) -> None:
    shape = BY_NAME["finished"]
    async with langgraphs_saver(empty_database_url) as old:
        graph = shape.make(old)
        await graph.ainvoke(shape.inputs[0], {**config_of("finished"), "metadata": {"customer": "c-1", "n": 1.5}})
        await import_threads(saver, empty_database_url)
        for wanted in ({"customer": "c-1"}, {"n": 1.5, "source": "loop"}, {"customer": "c-2"}):
            theirs = [each.checkpoint["id"] async for each in old.alist(None, filter=wanted)]
            assert [each.checkpoint["id"] async for each in saver.alist(None, filter=wanted)] == theirs
    assert json.dumps(theirs) == "[]"
