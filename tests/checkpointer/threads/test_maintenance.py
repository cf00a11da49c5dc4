"""Deleting a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.types import interrupt

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import StepConflict
from tests.support.bank import BALANCE
from tests.support.databases import tables
from tests.support.graphs import LARGE, chain, config_of
from tests.support.race import Race

if TYPE_CHECKING:
    from tests.support.bank import Bank


async def rows_of(saver: TransactionalSaver, thread_id: str) -> dict[str, int]:
    counts = {}
    for table in await tables(saver):
        async with saver.transaction() as tx:
            columns = await tx.fetch(
                "SELECT 1 FROM information_schema.columns "
                "WHERE table_schema = 'runtime' AND table_name = $1 AND column_name = 'thread_id'",
                table,
            )
            if columns:
                sql = f"SELECT count(*) FROM runtime.{table} WHERE thread_id = $1"
                counts[table] = await tx.fetchval(sql, thread_id)
    return counts


async def test_delete_thread_leaves_nothing_of_it_and_everything_of_others(
    saver: TransactionalSaver, bank: Bank
) -> None:
    model = FakeListChatModel(responses=["yes"])

    async def node(state: Any) -> Any:
        step = current_step()
        await race.read()
        await model.ainvoke("well?")
        step.stage("INSERT INTO journal (line) VALUES ('x')")
        step.stage("UPDATE account SET note = 'x' WHERE id = 1")
        return {"bag": {"long": "x" * LARGE}}

    async def ask(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 2)
        interrupt("?")

    graph = chain(saver, node, ask)
    for thread_id in ("doomed", "kept"):
        race = Race(bank, 5)
        await bank.set(100)
        with pytest.raises(StepConflict):
            await graph.ainvoke({"n": 0}, config_of(thread_id))
        await graph.ainvoke(None, config_of(thread_id))
    doomed, kept = await rows_of(saver, "doomed"), await rows_of(saver, "kept")
    assert all(doomed.values()), f"proves nothing where no row is: {doomed}"
    await saver.adelete_thread("doomed")
    assert not any((await rows_of(saver, "doomed")).values())
    assert await rows_of(saver, "kept") == kept
    assert await saver.aget_tuple(config_of("doomed")) is None
    await graph.ainvoke({"n": 0}, config_of("doomed"))
    assert (await graph.aget_state(config_of("doomed"))).next == ("ask",)
