"""A constraint that is violated by a row of somebody else: what had been read has moved, and that is a conflict."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import StagedWriteFailed, StepConflict
from tests.support.graphs import chain, config_of, fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

TABLES = """
CREATE TABLE seat (name text PRIMARY KEY, who text NOT NULL);
CREATE TABLE room (id int PRIMARY KEY);
INSERT INTO room VALUES (1);
CREATE TABLE booking (room int REFERENCES room, days int4range, EXCLUDE USING gist (days WITH &&));
CREATE TABLE late (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)
"""
SHAPES = {
    "a key": (
        "SELECT who FROM seat WHERE name = 'A1'",
        "INSERT INTO seat VALUES ('A1', 'us')",
        "INSERT INTO seat VALUES ('A1', 'them')",
    ),
    "a range": (
        "SELECT 1 FROM booking WHERE days && '[1,9)'",
        "INSERT INTO booking VALUES (1, '[1,5)')",
        "INSERT INTO booking VALUES (1, '[3,7)')",
    ),
    "a parent": (
        "SELECT 1 FROM room WHERE id = 1",
        "INSERT INTO booking VALUES (1, '[1,5)')",
        "DELETE FROM room WHERE id = 1",
    ),
    "a key that is checked late": (
        "SELECT 1 FROM late WHERE a = 1",
        "INSERT INTO late VALUES (1)",
        "INSERT INTO late VALUES (1)",
    ),
}


@pytest.fixture(params=[0, 0.25, "forever"])
def hold_idle(request: pytest.FixtureRequest) -> Any:
    return request.param


async def tables(bank: Bank) -> None:
    async with bank.saver.database.connections.borrow() as conn:
        await conn.execute(TABLES)


async def from_outside(bank: Bank, sql: str) -> None:
    """Below SERIALIZABLE, where the server detects no conflict with our reads."""
    async with bank.saver.database.connections.borrow() as conn, conn.transaction(isolation="read_committed"):
        await conn.execute(sql)


@pytest.mark.parametrize("moment", ["before the commit", "after it was validated"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_row_that_was_looked_for_and_came_meanwhile_is_a_conflict(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, shape: str, moment: str
) -> None:
    await tables(bank)
    read, write, other = SHAPES[shape]
    found: list[Any] = []

    async def decides(state: Any) -> Any:
        step = current_step()
        found.append(await step.fetchval(read))
        if len(found) == 1:
            step.stage(write)
            if moment == "before the commit":
                await from_outside(bank, other)
        return {"seen": [found[-1]]}

    async def insert() -> None:
        failpoints.disarm("commit.validated")
        await from_outside(bank, other)

    if moment != "before the commit":
        failpoints.arm("commit.validated", insert)
    flow = transactional(chain(saver, decides))
    result = await flow.ainvoke({"seen": []}, thread)
    assert len(found) == 2
    assert found[0] != found[1]
    assert result["seen"] == [found[1]]
    (step,) = (await flow.areport(thread)).steps
    assert (step.drifts, step.attempts) == (1, 2)


async def test_flows_that_race_for_one_key_get_it_once(saver: TransactionalSaver, bank: Bank) -> None:
    await tables(bank)
    all_have_read, met = asyncio.Barrier(8), set()

    async def takes(state: Any) -> Any:
        step = current_step()
        who = await step.fetchval("SELECT who FROM seat WHERE name = 'A1'")
        if step.thread_id not in met:
            met.add(step.thread_id)
            await all_have_read.wait()
        if who is None:
            step.stage("INSERT INTO seat VALUES ('A1', $1)", step.thread_id)
        return {"seen": [who]}

    flow = transactional(chain(saver, takes))
    threads = [config_of(str(number)) for number in range(8)]
    results = await asyncio.gather(*(flow.ainvoke({"seen": []}, thread) for thread in threads))
    assert sum(result["seen"] == [None] for result in results) == 1
    (taken,) = await bank.do("SELECT who FROM seat")
    assert all(result["seen"] in ([None], [taken["who"]]) for result in results)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_write_that_collides_with_what_was_there_is_at_fault_itself(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, shape: str
) -> None:
    """Also where the constraint is checked at COMMIT: the task's result is taken back, and it can be run again."""
    await tables(bank)
    _, write, other = SHAPES[shape]
    await bank.do(other)
    broken = True

    async def writes(state: Any) -> Any:
        if broken:
            current_step().stage(write)
        return {"seen": ["done"]}

    flow = transactional(chain(saver, writes))
    with pytest.raises(StagedWriteFailed) as caught:
        await flow.ainvoke({"seen": []}, thread)
    assert caught.value.task == "writes"
    assert str(caught.value.sqlstate).startswith("23")
    broken = False
    assert (await flow.ainvoke(None, thread))["seen"] == ["done"]


async def test_writes_of_siblings_that_fit_together_in_the_end_are_committed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await tables(bank)
    await bank.do("INSERT INTO late VALUES (1)")

    async def a(state: Any) -> Any:
        current_step().stage("INSERT INTO late VALUES (1)")

    async def b(state: Any) -> Any:
        current_step().stage("DELETE FROM late WHERE ctid = (SELECT min(ctid) FROM late)")

    await transactional(fan(saver, a, b)).ainvoke({"seen": []}, thread)
    assert len(await bank.do("SELECT 1 FROM late")) == 1


async def test_plain_langgraph_is_told_of_a_conflict(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await tables(bank)
    read, write, other = SHAPES["a key"]

    async def decides(state: Any) -> Any:
        step = current_step()
        await step.fetchval(read)
        step.stage(write)
        await from_outside(bank, other)

    with pytest.raises(StepConflict):
        await chain(saver, decides).ainvoke({"seen": []}, thread)
