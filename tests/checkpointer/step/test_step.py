"""What a node can ask of its step: reads that cannot write, nearest rows, and nothing when the step is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import NoActiveStep, ReadFailed, ReadRefused, StepConflict
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import State, chain
from tests.support.internals import pinned

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_a_step_that_is_over_says_so(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    kept: list[Any] = []

    async def node(state: Any) -> Any:
        kept.append(current_step())
        return {"n": 1}

    await chain(saver, node).ainvoke({"n": 0}, thread)
    with pytest.raises(NoActiveStep):
        kept[0].stage(LOG, "late")
    with pytest.raises(NoActiveStep):
        await kept[0].fetchval(BALANCE, 1)
    assert pinned(saver) == 0


@pytest.mark.parametrize("how", ["returned", "asked", "failed"])
async def test_what_outlives_its_node_is_told_while_siblings_are_at_work(
    how: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    left: list[Any] = []
    over = asyncio.Event()

    async def leaves(state: Any) -> Any:
        left.append(current_step())
        await left[0].fetchval(BALANCE, 1)
        if how == "asked":
            interrupt("go on?")
        if how == "failed":
            raise ValueError(how)
        return {"n": 1}

    async def sibling(state: Any) -> Any:
        await over.wait()
        return {"seen": ["sibling"]}

    put = saver.aput_writes

    async def watched(config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        await put(config, writes, task_id, task_path)
        if "leaves" not in task_path:  # the input's, or the sibling's
            return
        with pytest.raises(NoActiveStep, match="has returned"):
            left[0].stage(LOG, "late")
        with pytest.raises(NoActiveStep, match="has returned"):
            await left[0].fetchval(BALANCE, 1)
        with pytest.raises(NoActiveStep, match="has returned"):
            left[0].uses("verify@3")
        told.append(how)
        over.set()

    told: list[str] = []
    builder = StateGraph(State).add_node("leaves", leaves).add_node("sibling", sibling)
    builder.add_edge(START, "leaves").add_edge(START, "sibling")
    graph = builder.compile(checkpointer=saver)
    saver.aput_writes = watched  # type: ignore[method-assign]
    try:
        await graph.ainvoke({"n": 0, "seen": []}, thread)
    except ValueError:
        assert how == "failed"
    saver.aput_writes = put  # type: ignore[method-assign]
    assert told
    assert await bank.journal() == []


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE account SET balance = 0",
        "DELETE FROM account RETURNING id",
        "COMMIT",
        "ROLLBACK TO SAVEPOINT reads",
        "SET transaction_read_only = off",
        "/* SELECT */ INSERT INTO journal (line) VALUES ('x')",
        "WITH gone AS (DELETE FROM account RETURNING id) SELECT * FROM gone",
        "SELECT * FROM account FOR UPDATE",
        "SELECT nextval('journal_seq_seq')",
        "SELECT set_config('transaction_read_only', 'off', true), nextval('journal_seq_seq')",
        "SET LOCAL ROLE postgres",
        "SET SESSION AUTHORIZATION DEFAULT",
        "DO $$ BEGIN COMMIT; END $$",
        "CALL committing()",
        "PREPARE TRANSACTION 'x'",
        "LISTEN x",
        "NOTIFY x",
        "LOCK TABLE account",
        "SELECT writable()",
        "SELECT committing_inside()",
    ],
)
async def test_a_read_that_would_write_is_refused(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, sql: str
) -> None:
    await bank.do(
        "CREATE FUNCTION writable() RETURNS void LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM set_config('transaction_read_only', 'off', true); UPDATE account SET balance = 0; END $$"
    )
    await bank.do(
        "CREATE FUNCTION committing_inside() RETURNS void LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE account SET balance = 0; COMMIT; END $$"
    )

    async def node(state: Any) -> Any:
        step = current_step()
        before = await step.fetchval(BALANCE, 1)
        with pytest.raises((ReadRefused, ReadFailed)):
            await step.fetch(sql)
        return {"seen": [before, await step.fetchval(BALANCE, 1)]}

    result = await chain(saver, node).ainvoke({"seen": []}, thread)
    assert result["seen"] == [100, 100]
    assert len(await bank.do("SELECT * FROM account WHERE balance = 100")) == 5
    assert await bank.do("SELECT * FROM journal") == []


async def test_a_rejected_read_harms_neither_the_snapshot_nor_the_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        seen = [await step.fetchval(BALANCE, 1)]
        await bank.set(1, account=2)
        with pytest.raises(ReadFailed) as caught:
            await step.fetch("SELECT 1 / 0 FROM account WHERE id = $1", 1)
        assert caught.value.sqlstate == "22012"
        with pytest.raises(ReadFailed) as caught:
            await step.fetchval(BALANCE, "no number")
        assert caught.value.sqlstate == "22000"
        assert "no number" not in str(caught.value)
        seen.append(await step.fetchval(BALANCE, 2))
        step.stage("UPDATE account SET balance = 9 WHERE id = 3")
        return {"seen": seen}

    assert (await chain(saver, node).ainvoke({"seen": []}, thread))["seen"] == [100, 100]
    assert await bank.balance(3) == 9


async def test_nearest_reads_in_the_snapshot_and_its_rows_are_facts(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await bank.do("CREATE TABLE policy (id int PRIMARY KEY, content text, metadata jsonb, embedding vector(2))")
    await bank.do("INSERT INTO policy VALUES (1, 'east', '{}', '[1,0]'), (2, 'north', '{\"t\": 1}', '[0,1]')")
    answers: list[list[str]] = []

    async def node(state: Any) -> Any:
        step = current_step()
        rows = await step.nearest("public.policy", embedding=[1.0, 0.1], k=1)
        answers.append([row["content"] for row in rows])
        if len(answers) == 1:
            await bank.do("INSERT INTO policy VALUES (3, 'more east', '{}', '[1,0.1]')")
            await bank.set(99)
        filtered = await step.nearest("policy", embedding=[1.0, 0.0], k=5, where="metadata ->> 't' = $1", args=["1"])
        assert [row["id"] for row in filtered] == [2]
        step.stage("UPDATE account SET balance = balance - 1 WHERE id = 1", expect_rows=1)
        return {"seen": [row["content"] for row in rows]}

    graph = chain(saver, node)
    with pytest.raises(StepConflict):
        await graph.ainvoke({"seen": []}, thread)
    assert (await graph.ainvoke(None, thread))["seen"] == ["more east"]
    assert answers == [["east"], ["more east"]]


async def test_collection_names_are_quoted(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        with pytest.raises(ReadFailed) as caught:
            await current_step().nearest('policy"; DROP TABLE account; --', embedding=[1.0], k=1)
        assert caught.value.sqlstate == "42P01"

    await chain(saver, node).ainvoke({"seen": []}, thread)


async def test_no_step_outside_a_super_step() -> None:
    with pytest.raises(NoActiveStep):
        current_step()
