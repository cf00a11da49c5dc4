"""Reads that say something else each time are named, and their super-step ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ReadRefused
from tests.support.bank import BALANCE, LOG, Bank
from tests.support.graphs import chain
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

VOLATILE = [
    "SELECT now()",
    "SELECT random()",
    "SELECT gen_random_uuid()",
    "SELECT clock_timestamp() - now()",
    "SELECT id, balance, CURRENT_TIMESTAMP FROM account ORDER BY id",
    "SELECT id FROM account ORDER BY random()",
    "SELECT * FROM aged",
    "SELECT * FROM drawn",
    "SELECT luck(id) FROM account ORDER BY id",
    "SELECT id, balance FROM account TABLESAMPLE BERNOULLI (50) ORDER BY id",
    "SELECT txid_current()",
    "SELECT pg_current_xact_id()",
    "WITH t AS (SELECT statement_timestamp() AS at) SELECT at::text FROM t",
]
WRITING = [
    "SELECT nextval('journal_seq_seq')",
    "SELECT setval('journal_seq_seq', 7)",
    "SELECT id FROM account FOR UPDATE",
    "SELECT id FROM account FOR SHARE",
    "SELECT writes()",
]


@pytest.mark.parametrize("sql", VOLATILE)
@pytest.mark.parametrize("hold_idle", [0])
async def test_a_read_that_never_says_the_same_is_named(
    sql: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    ran = 0
    await bank.do("SELECT 1")
    async with saver.transaction() as tx:
        await tx.execute("CREATE VIEW aged AS SELECT now() - '2026-01-01'::timestamptz AS age")
        await tx.execute("CREATE VIEW drawn AS SELECT id FROM account WHERE random() < 0.5")
        await tx.execute("CREATE FUNCTION luck(int) RETURNS float8 LANGUAGE sql AS 'SELECT random() * $1'")
        await tx.execute("INSERT INTO account SELECT i, 1 FROM generate_series(100, 400) AS i")

    async def node(state: Any) -> Any:
        nonlocal ran
        ran += 1
        await current_step().fetch(sql)
        current_step().stage(LOG, "x")
        return {}

    flow = transactional(chain(saver, node))
    with pytest.raises(ReadRefused, match=r"'node' says something else each time.*validate=False"):
        await flow.ainvoke({"seen": []}, thread)
    assert ran == 3
    assert await bank.journal() == []


@pytest.mark.parametrize("sql", WRITING)
async def test_a_read_that_writes_besides_is_refused(
    sql: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Locks of rows and numbers of sequences are writes too: a read that is repeated must not draw another number."""
    await bank.do(
        "CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO journal (line) VALUES ('written'); RETURN 1; END $$"
    )

    async def node(state: Any) -> Any:
        with pytest.raises(ReadRefused, match="would write"):
            await current_step().fetch(sql)
        current_step().stage(LOG, "x")
        return {}

    await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert await bank.do("SELECT seq, line FROM journal") == [(1, "x")]


@pytest.mark.parametrize("hold_idle", [0])
async def test_reads_by_the_time_that_say_the_same_are_facts_like_others(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async with saver.transaction() as tx:
        await tx.execute("ALTER TABLE account ADD COLUMN opened timestamptz NOT NULL DEFAULT now()")

    async def node(state: Any) -> Any:
        step = current_step()
        recent = await step.fetchval("SELECT count(*) FROM account WHERE opened > now() - interval '1 day'")
        await step.fetchval("SELECT random()", validate=False)
        step.stage(LOG, "x")
        return {"seen": [recent]}

    assert (await transactional(chain(saver, node)).ainvoke({"seen": []}, thread))["seen"] == [5]
    assert await bank.journal() == ["x"]


async def test_a_fact_that_has_moved_often_is_no_such_read(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 90, 80, 70, 60, 50)

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 2)
        return {"seen": [await race.decide()]}

    result = await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [50]
