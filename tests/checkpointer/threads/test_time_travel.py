"""Forking from an old checkpoint, also when the fork's first super-step conflicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import SchemaMissing
from tests.support.graphs import chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_a_conflict_in_a_fork_goes_on_in_the_fork(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    interfere = False
    runs: list[str] = []

    async def first(state: Any) -> Any:
        runs.append("first")
        current_step().stage("INSERT INTO journal (line) VALUES ('first')")
        return {"seen": ["first"]}

    async def second(state: Any) -> Any:
        nonlocal interfere
        runs.append("second")
        step = current_step()
        balance = await step.fetchval("SELECT balance FROM account WHERE id = 1")
        if interfere:
            interfere = False
            await bank.set(7)
        step.stage("UPDATE account SET balance = $1 WHERE id = 1", balance + 1)
        return {"seen": [balance]}

    flow = transactional(chain(saver, first, second))
    await flow.ainvoke({"seen": []}, thread)
    history = [state async for state in flow.aget_state_history(thread)]
    (before_first,) = (state for state in history if state.next == ("first",))
    runs.clear()
    interfere = True
    result = await flow.ainvoke(None, before_first.config)
    assert result["seen"] == ["first", 7]
    assert runs == ["first", "second", "second"]
    assert await bank.balance() == 8
    lines = await bank.do("SELECT count(*) FROM journal")
    assert lines[0][0] == 2


async def test_a_database_without_tables_is_named(empty_database_url: str, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        return {"n": 1}

    async with TransactionalSaver.from_conn_string(empty_database_url) as saver:
        with pytest.raises(SchemaMissing, match=r"runtime db migrate"):
            await chain(saver, node).ainvoke({"n": 0}, thread)
        await saver.setup()
        assert (await chain(saver, node).ainvoke({"n": 0}, thread))["n"] == 1
