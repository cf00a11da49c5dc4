"""Reads of very many rows, and super-steps that stage very many statements."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database.pool import register_codecs
from superstep.checkpointer.step.answers import returned
from superstep.checkpointer.step.read_set import digest_rows
from superstep.runtime.faults import StagedWriteFailed, StepConflict
from tests.support.bank import BALANCE, LOG, SET, Bank, make_bank
from tests.support.graphs import chain, steps_of
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

ROWS = 100_000
MANY = "SELECT i AS id, 'row ' || i AS text, i * 1.5::float8 AS x FROM generate_series(1, $1::int) i ORDER BY i"
STATEMENTS = 10_000


@pytest.mark.parametrize("hold_idle", [0, 0.25])
async def test_a_read_of_very_many_rows(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    """It is a fact as others are: one of its rows that changes makes the task run again, and nothing else does."""
    await bank.do("INSERT INTO account SELECT i, 1 FROM generate_series(6, $1::int) i", ROWS)
    race, counts = Race(bank, 7), []

    async def node(state: Any) -> Any:
        rows = await current_step().fetch("SELECT id, balance FROM account ORDER BY id")
        counts.append((len(rows), rows[0]["balance"]))
        await race.decide()
        current_step().stage(LOG, "x")
        return {}

    await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert counts == [(ROWS, 100), (ROWS, 7)]
    assert await bank.journal() == ["x"]


async def test_others_run_while_rows_are_compared() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    rows: Any = [(at, f"row {at}") for at in range(ROWS)]
    task = asyncio.create_task(other())
    answer = await returned("SELECT", rows)
    task.cancel()
    assert turns >= 100
    assert answer.digest == digest_rows(rows)
    assert answer.rows is rows


async def test_very_many_staged_statements_are_not_waited_for_one_by_one(
    database_url: str, thread: RunnableConfig
) -> None:
    sent: list[str] = []

    async def init(conn: Any) -> None:
        await register_codecs(conn)
        conn.add_query_logger(lambda record: sent.append(record.query))

    async def node(state: Any) -> Any:
        for at in range(STATEMENTS):
            current_step().stage(LOG, str(at))
        return {}

    async with asyncpg.create_pool(database_url, min_size=1, max_size=2, init=init) as pool:
        saver = TransactionalSaver(pool, own_pool=True)
        await make_bank(saver)
        sent.clear()
        await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
        assert sent.count(LOG) == 1
        assert await Bank(saver).journal() == [str(at) for at in range(STATEMENTS)]
        assert (await steps_of(saver, thread))[-1].writes == STATEMENTS
        await saver.aclose()


async def test_statements_of_one_kind_keep_their_place_among_others(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        for at in range(3):
            step.stage(LOG, f"a{at}")
        step.stage("INSERT INTO journal (line) SELECT 'of ' || count(*) FROM journal")
        step.stage(LOG, "b", expect_rows=1)
        step.stage(SET, 1, 1)
        step.stage(SET, 2, 1)
        step.stage("INSERT INTO journal (line) SELECT 'left ' || balance FROM account WHERE id = 1")
        step.stage(LOG, "c")
        step.stage(LOG, "d")
        return {}

    await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert await bank.journal() == ["a0", "a1", "a2", "of 3", "b", "left 2", "c", "d"]


@pytest.mark.parametrize("wrong", [-1, "x"])
async def test_one_among_many_that_cannot_be_applied(
    wrong: Any, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    ran = 0

    async def node(state: Any) -> Any:
        nonlocal ran
        ran += 1
        await current_step().fetchval(BALANCE, 2)
        for at in range(100):
            current_step().stage(SET, wrong if at == 50 and ran == 1 else at, 1)
        return {}

    flow = transactional(chain(saver, node))
    with pytest.raises(StagedWriteFailed, match="'node'") as caught:
        await flow.ainvoke({"seen": []}, thread)
    assert (caught.value.task, caught.value.sql) == ("node", SET)
    assert await bank.balance() == 100
    await flow.ainvoke(None, thread)
    assert (ran, await bank.balance()) == (2, 99)


async def test_expected_rows_are_counted_among_many(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        for account in (1, 2, 99):
            current_step().stage(SET, 5, account, expect_rows=1)
        return {}

    with pytest.raises(StepConflict, match="was to touch 1 row"):
        await chain(saver, node).ainvoke({"seen": []}, thread)
    assert await bank.balance() == 100
