"""One snapshot per super-step, and reads that cannot write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import NoActiveStep, ReadFailed, ReadRefused, StepConflict
from tests.support.bank import Bank, make_bank
from tests.support.graphs import chain, fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

BALANCE = "SELECT balance FROM account WHERE id = $1"


async def test_parallel_tasks_see_one_state_although_it_changes_between_their_reads(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    first_has_read = asyncio.Event()

    async def early(state: Any) -> Any:
        value = await current_step().fetchval(BALANCE, 1)
        await bank.set(55)
        first_has_read.set()
        return {"seen": [value]}

    async def late(state: Any) -> Any:
        await first_has_read.wait()
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    # Nothing is written, so the snapshot of both reads is a valid place in the serial order: before the change.
    result = await fan(saver, early, late).ainvoke({"seen": []}, thread)
    assert result["seen"] == [100, 100]


@pytest.mark.parametrize("hold_idle", [0, "forever"])
async def test_snapshot_is_the_same_whether_the_transaction_is_held_or_given_back(
    database_url: str, thread: RunnableConfig, hold_idle: float | str
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=hold_idle) as saver:
        await make_bank(saver)
        bank = Bank(saver)

        async def node(state: Any) -> Any:
            step = current_step()
            seen = [await step.fetchval(BALANCE, 1)]
            await bank.set(55, account=2)  # not read so far: the snapshot may move past it
            seen.append(await step.fetchval(BALANCE, 2))
            step.stage("UPDATE account SET balance = balance + 1 WHERE id = 3", expect_rows=1)
            return {"seen": seen}

        result = await chain(saver, node).ainvoke({"seen": []}, thread)
        assert result["seen"] == ([100, 55] if hold_idle == 0 else [100, 100])
        assert await bank.balance(3) == 101
        steps = await saver.asteps(thread["configurable"]["thread_id"])
        assert [s.commit for s in steps] == (["replay"] if hold_idle == 0 else ["direct"])


async def test_a_task_whose_facts_moved_stops_at_its_next_read_and_pays_nothing_more(
    database_url: str, thread: RunnableConfig
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0) as saver:
        await make_bank(saver)
        bank = Bank(saver)
        reached: list[str] = []

        async def node(state: Any) -> Any:
            step = current_step()
            await step.fetchval(BALANCE, 1)
            await bank.set(1)
            reached.append("before")
            await step.fetchval(BALANCE, 2)
            reached.append("after")

        with pytest.raises(StepConflict) as caught:
            await chain(saver, node).ainvoke({"seen": []}, thread)
        assert caught.value.tasks == ("node",)
        assert reached == ["before"]


async def test_sibling_of_a_drifted_task_goes_on_in_the_newer_snapshot(
    database_url: str, thread: RunnableConfig
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0) as saver:
        await make_bank(saver)
        bank = Bank(saver)
        drifting_has_read = asyncio.Event()
        runs: list[str] = []

        async def drifting(state: Any) -> Any:
            runs.append("drifting")
            value = await current_step().fetchval(BALANCE, 1)
            drifting_has_read.set()
            return {"seen": [("drifting", value)]}

        async def steady(state: Any) -> Any:
            runs.append("steady")
            step = current_step()
            await step.fetchval(BALANCE, 2)
            await drifting_has_read.wait()
            await bank.set(7, account=1)
            return {"seen": [("steady", await step.fetchval(BALANCE, 3))]}

        graph = fan(saver, drifting, steady)
        with pytest.raises(StepConflict) as caught:
            await graph.ainvoke({"seen": []}, thread)
        assert caught.value.tasks == ("drifting",)
        result = await graph.ainvoke(None, thread)
        assert sorted(runs) == ["drifting", "drifting", "steady"]
        assert [list(pair) for pair in result["seen"]] == [["drifting", 7], ["steady", 100]]


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
    ],
)
async def test_a_read_that_would_write_is_refused(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, sql: str
) -> None:
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


async def test_many_thinking_steps_share_one_connection(database_url: str) -> None:
    """No connection while thinking: steps in flight outnumber connections, and none waits for ever."""
    async with TransactionalSaver.from_conn_string(database_url, pool_max=1, hold_idle="forever") as saver:
        await make_bank(saver)
        everybody = asyncio.Barrier(30)

        async def node(state: Any) -> Any:
            step = current_step()
            first = await step.fetchval(BALANCE, 1)
            await everybody.wait()  # all thirty have read and think at the same time
            step.stage("INSERT INTO journal (line) VALUES ($1)", str(first))
            return {"seen": [first, await step.fetchval(BALANCE, 2)]}

        graph = chain(saver, node)
        async with asyncio.timeout(30):
            await asyncio.gather(
                *(graph.ainvoke({"seen": []}, {"configurable": {"thread_id": f"t{i}"}}) for i in range(30))
            )
        async with saver.transaction() as tx:
            assert await tx.fetchval("SELECT count(*) FROM journal") == 30


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
    lines = [row["line"] for row in await bank.do("SELECT line FROM journal ORDER BY seq")]
    assert lines == ["a1", "a2", "b1", "b2"]


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
