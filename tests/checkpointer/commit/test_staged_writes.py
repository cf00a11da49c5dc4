"""Staged writes: applied in order with the commit, or refused by name and undone."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import (
    ReadFailed,
    StagedWriteFailed,
    StatementRefused,
)
from tests.support.bank import BALANCE
from tests.support.graphs import chain, fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_a_rejected_staged_write_undoes_the_step_and_runs_that_node_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    runs: list[str] = []
    amount = 500

    async def greedy(state: Any) -> Any:
        runs.append("greedy")
        current_step().stage("UPDATE account SET balance = balance - $1 WHERE id = 1", amount)
        return {"seen": ["greedy"]}

    async def modest(state: Any) -> Any:
        runs.append("modest")
        current_step().stage("UPDATE account SET balance = balance - 1 WHERE id = 2")
        return {"seen": ["modest"]}

    flow = transactional(fan(saver, greedy, modest))
    with pytest.raises(StagedWriteFailed) as caught:
        await flow.ainvoke({"seen": []}, thread)
    assert (caught.value.task, caught.value.sqlstate) == ("greedy", "23514")
    assert "500" not in str(caught.value)
    assert (await bank.balance(1), await bank.balance(2)) == (100, 100)
    amount = 50
    result = await flow.ainvoke(None, thread)
    assert result["seen"] == ["greedy", "modest"]
    assert (await bank.balance(1), await bank.balance(2)) == (50, 99)
    assert sorted(runs) == ["greedy", "greedy", "modest"]


@pytest.mark.parametrize(
    ("sql", "args", "state"),
    [
        ("UPDATE nowhere SET x = 1", (), "42P01"),
        ("INSERT INTO account VALUES (1, 1)", (), "23505"),
        ("UPDATE account SET balance = $1", ("text",), "22000"),
        ("not sql at all", (), "42601"),
    ],
)
async def test_bad_staged_sql_is_named_and_leaves_nothing(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, sql: str, args: tuple[Any, ...], state: str | None
) -> None:
    bad = True

    async def node(state: Any) -> Any:
        step = current_step()
        step.stage("UPDATE account SET balance = 1 WHERE id = 1")
        if bad:
            step.stage(sql, *args)

    flow = transactional(chain(saver, node))
    with pytest.raises(StagedWriteFailed) as caught:
        await flow.ainvoke({}, thread)
    assert caught.value.sqlstate == state
    assert await bank.balance() == 100
    bad = False
    await flow.ainvoke(None, thread)
    assert await bank.balance() == 1


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        " -- x\n rollback to savepoint reads",
        "",
        "/* only */",
        "/* /* */ UPDATE */ COMMIT",
        "-- x\rEND /*\nUPDATE */",
        "COMMIT PREPARED 'x'",
        "PREPARE TRANSACTION 'x'",
        "ABORT",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET TRANSACTION READ WRITE",
        "RESET ALL",
        "DISCARD ALL",
        "LISTEN x",
        "DEALLOCATE ALL",
        "LOAD 'x'",
    ],
)
async def test_a_staged_write_cannot_end_the_transaction(
    saver: TransactionalSaver, thread: RunnableConfig, sql: str
) -> None:
    async def node(state: Any) -> Any:
        with pytest.raises(StatementRefused):
            current_step().stage(sql)
        return {"n": 1}

    assert (await chain(saver, node).ainvoke({}, thread))["n"] == 1


@pytest.mark.parametrize("sql", ["DO $$ BEGIN COMMIT; END $$", "CALL committing()"])
async def test_a_procedure_that_commits_is_rejected_by_the_server(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, sql: str
) -> None:
    await bank.do("CREATE PROCEDURE committing() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$")

    async def node(state: Any) -> Any:
        current_step().stage("UPDATE account SET balance = 1 WHERE id = 1")
        current_step().stage(sql)

    with pytest.raises(StagedWriteFailed) as caught:
        await chain(saver, node).ainvoke({}, thread)
    assert caught.value.sqlstate == "2D000"
    assert await bank.balance() == 100


async def test_what_gets_past_the_guards_and_ends_the_transaction_ends_the_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("superstep.checkpointer.step.step.ends_transaction", lambda _: False)

    async def node(state: Any) -> Any:
        current_step().stage("ROLLBACK")
        current_step().stage("UPDATE account SET balance = 1 WHERE id = 1")

    with pytest.raises(StatementRefused, match="ended the transaction"):
        await chain(saver, node).ainvoke({}, thread)
    assert await bank.balance() == 100
    assert saver.database.connections.lent == 0


async def test_row_count_mismatch_is_a_conflict_and_the_node_decides_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    runs = 0

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        current_step().stage("UPDATE account SET balance = 1 WHERE id = $1", 77 if runs == 1 else 1, expect_rows=1)

    await transactional(chain(saver, node)).ainvoke({}, thread)
    assert runs == 2
    assert await bank.balance() == 1


async def test_a_stage_is_one_statement(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        step.stage("INSERT INTO journal (line) VALUES ('leak'); COMMIT; BEGIN")
        step.stage("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(StagedWriteFailed) as caught:
        await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert caught.value.sqlstate == "42601"
    assert await bank.journal() == []


async def test_arguments_are_what_they_were_when_given(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        step, argument = current_step(), ["a"]
        await step.fetch("SELECT * FROM account WHERE note = ANY($1::text[])", argument)
        for line in ("one", "two"):
            argument[:] = [line]
            step.stage("INSERT INTO journal (line) SELECT unnest($1::text[])", argument)

    await chain(saver, node).ainvoke({"n": 0}, thread)
    assert await bank.journal() == ["one", "two"]


async def test_no_argument_is_quoted_in_an_error(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        with pytest.raises(ReadFailed) as caught:
            await current_step().fetch("SELECT $1::text::integer", "hunter2")
        assert "hunter2" not in str(caught.value)
        current_step().stage("INSERT INTO account (id) VALUES ($1::text::integer)", "hunter2")

    flow = transactional(chain(saver, node))
    with pytest.raises(StagedWriteFailed) as caught:
        await flow.ainvoke({"n": 0}, thread)
    report = await flow.areport(thread)
    assert "hunter2" not in str(caught.value) + json.dumps(report.to_dict())


async def test_staged_writes_are_invisible_until_the_barrier(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def first(state: Any) -> Any:
        step = current_step()
        step.stage("UPDATE account SET balance = 1 WHERE id = 1", expect_rows=1)
        return {"seen": [await step.fetchval(BALANCE, 1), await bank.balance(1)]}

    async def second(state: Any) -> Any:
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    result = await chain(saver, first, second).ainvoke({"seen": []}, thread)
    assert result["seen"] == [100, 100, 1]


async def test_staged_writes_are_applied_in_task_order_then_call_order(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    b_has_staged = asyncio.Event()

    async def a(state: Any) -> Any:
        await b_has_staged.wait()
        for line in ("a1", "a2"):
            current_step().stage("INSERT INTO journal (line) VALUES ($1)", line)

    async def b(state: Any) -> Any:
        for line in ("b1", "b2"):
            current_step().stage("INSERT INTO journal (line) VALUES ($1)", line)
        b_has_staged.set()

    await fan(saver, a, b).ainvoke({"seen": []}, thread)
    lines = await bank.journal()
    assert lines == ["a1", "a2", "b1", "b2"]
