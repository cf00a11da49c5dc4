"""Shared values outside of super-steps; and what of them lies open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import current_step
from superstep.checkpointer import TransactionalSaver
from superstep.runtime.faults import SwapRefused, UpdateInvalid, ValueNotAuthentic
from tests.checkpointer.saver.test_encryption import MARK, aes
from tests.checkpointer.shared.plans import PLAN
from tests.support.graphs import chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


async def test_updates_from_outside_are_merged_at_once(saver: TransactionalSaver) -> None:
    await asyncio.gather(*(saver.areduce("test.total", "p", each) for each in range(20)))
    assert await saver.ashared("test.total", "p") == sum(range(20))
    page = await saver.ashared_history("test.total", "p", after=5, limit=3)
    assert [update.version for update in page] == [6, 7, 8]
    assert {(u.thread_id, u.checkpoint_ns, u.checkpoint_id, u.task_id, u.node) for u in page} == {("",) * 5}
    with pytest.raises(UpdateInvalid):
        await saver.areduce("test.plan", "p", 3)
    with pytest.raises(SwapRefused):
        await saver.areduce("test.slot", "p", {"expected": "x", "new": "y"})


async def test_what_there_is_and_that_it_can_go(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    for key in ("a", "b", "c"):
        await saver.areduce("test.total", key, 1)
    await saver.areduce("test.total", "b", 1)
    assert await saver.ashared_keys("test.total") == [("a", 1), ("b", 2), ("c", 1)]
    assert await saver.ashared_keys("test.total", after="a", limit=1) == [("b", 2)]

    async def node(state: Any) -> Any:
        current_step().reduce("test.total", "b", 1)

    await chain(saver, node).ainvoke({}, thread)
    await saver.adelete_thread(thread["configurable"]["thread_id"])
    assert await saver.ashared("test.total", "b") == 3  # it is everybody's
    assert await saver.adelete_shared("test.total", "b")
    assert not await saver.adelete_shared("test.total", "b")
    assert await saver.ashared("test.total", "b") == 0
    assert await saver.ashared_history("test.total", "b") == []
    await saver.areduce("test.total", "b", 5)
    assert await saver.ashared_keys("test.total") == [("a", 1), ("b", 1), ("c", 1)]


async def test_with_a_key_values_are_encrypted_and_bound_to_their_rows(database_url: str) -> None:
    async with TransactionalSaver.from_conn_string(database_url, serde=aes()) as secret:
        for key in ("a", "b"):
            await secret.areduce(PLAN.name, key, {"owner": f"{MARK} {key}"})
        assert (await secret.ashared(PLAN.name, "a")).owner == f"{MARK} a"
        assert [update.update for update in await secret.ashared_history(PLAN.name, "a")] == [{"owner": f"{MARK} a"}]
        read = "SELECT value FROM runtime.shared_value WHERE key = 'a'"
        async with secret.transaction() as tx:
            before = await tx.fetchval(read)
        await secret.areduce(
            PLAN.name, "a", {"owner": f"{MARK} a"}
        )  # it stays as it is, to the byte: no fact has changed
        async with secret.transaction() as tx:
            assert await tx.fetchval(read) == before
            rows = await tx.fetch(
                "SELECT v::text FROM runtime.shared_value v UNION SELECT u::text FROM runtime.shared_update u"
            )
            found = await tx.fetch(
                "SELECT value FROM runtime.shared_value UNION SELECT value FROM runtime.shared_update"
            )
            assert len(rows) == len(found) == 5
            assert all(MARK not in row[0] for row in rows)
            assert all(MARK.encode() not in row[0] for row in found)
            for table in ("shared_value", "shared_update"):  # one put in the place of another
                await tx.execute(
                    f"UPDATE runtime.{table} SET value = (SELECT value FROM runtime.{table} WHERE key = 'b') "
                    "WHERE key = 'a'"
                )
        with pytest.raises(ValueNotAuthentic):
            await secret.ashared(PLAN.name, "a")
        with pytest.raises(ValueNotAuthentic):
            await secret.areduce(PLAN.name, "a", {"seen": 1})
        with pytest.raises(ValueNotAuthentic):
            await secret.ashared_history(PLAN.name, "a")
        async with TransactionalSaver.from_conn_string(database_url) as plain:
            with pytest.raises(ValueNotAuthentic):
                await plain.ashared(PLAN.name, "b")
