"""What the database rejected is a fact as well, and a new order of the same rows is one where an order was promised."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.step.answers import rejected
from superstep.checkpointer.step.read_set import Read
from superstep.checkpointer.step.snapshot import Snapshot, SnapshotState
from superstep.checkpointer.step.task import Task
from superstep.runtime.faults import ReadFailed, ReadRefused, StatementRefused, StepConflict
from tests.support.bank import LOG
from tests.support.graphs import chain, steps_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

SETUP = """
CREATE TABLE stock (id int PRIMARY KEY, qty int, raw text, day date, steps text[], doc jsonb);
INSERT INTO stock VALUES (1, 0, 'n/a', '20000-01-01', '{deploy,test}', '["deploy", "test"]'),
                         (2, 1, '7', '2026-01-01', '{}', '[]');
CREATE FUNCTION must_have() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT qty FROM stock WHERE id = 1) < 1 THEN
        RAISE EXCEPTION 'only % left', (SELECT qty FROM stock WHERE id = 1) USING ERRCODE = '45000';
    END IF;
    RETURN 1;
END $$;
CREATE FUNCTION noted() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT qty FROM stock WHERE id = 1) = 0 THEN INSERT INTO journal (line) VALUES ('x'); END IF;
    RETURN 1;
END $$;
CREATE VIEW steps AS SELECT unnest(steps) AS step FROM stock WHERE id = 1;
CREATE VIEW sorted AS SELECT id, qty FROM stock ORDER BY qty, id;
CREATE VIEW plain AS SELECT s.id FROM stock s;
CREATE FUNCTION todo(stock) RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT unnest($1.steps)';
CREATE FUNCTION count(stock) RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT unnest($1.steps)';
CREATE VIEW of_view AS SELECT * FROM steps;
"""

# A read that is rejected, its SQLSTATE, and what somebody else does after which it is not, or is so otherwise.
REJECTIONS = {
    "division by zero": ("SELECT 100 / qty FROM stock WHERE id = 1", "22012", "UPDATE stock SET qty = 5 WHERE id = 1"),
    "no number": ("SELECT raw::int FROM stock WHERE id = 1", "22P02", "UPDATE stock SET raw = '5' WHERE id = 1"),
    "another reason": ("SELECT 1 / qty + raw::int FROM stock WHERE id = 1", "22012", "UPDATE stock SET qty = 5"),
    "too many rows": ("SELECT (SELECT id FROM stock)", "21000", "DELETE FROM stock WHERE id = 2"),
    "no table": ("SELECT * FROM later", "42P01", "CREATE TABLE later (id int)"),
    "no column": ("SELECT later FROM stock", "42703", "ALTER TABLE stock ADD later int"),
    "no function": ("SELECT later()", "42883", "CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    "no schema": ("SELECT * FROM later.stock", "42P01", "CREATE SCHEMA later CREATE TABLE stock (id int)"),
    "said by a function": ("SELECT must_have()", "45000", "UPDATE stock SET qty = 5"),
    "other words of a function": ("SELECT must_have()", "45000", "UPDATE stock SET qty = -1"),
    "not for Python": ("SELECT day FROM stock WHERE id = 1", None, "UPDATE stock SET day = '2026-01-01'"),
    "would write": ("SELECT noted()", "25006", "UPDATE stock SET qty = 5"),
}


@pytest.fixture
async def stock(bank: Bank) -> Bank:
    async with bank.saver.transaction() as tx:
        await tx.execute(SETUP)
    return bank


@pytest.mark.parametrize("hold_idle", [0, "forever"])
@pytest.mark.parametrize("kind", REJECTIONS)
async def test_a_decision_does_not_outlive_the_rejection_that_it_rests_on(
    saver: TransactionalSaver, stock: Bank, thread: RunnableConfig, kind: str, hold_idle: float | str
) -> None:
    sql, sqlstate, change = REJECTIONS[kind]
    decisions: list[tuple[str, Any]] = []

    async def node(state: Any) -> Any:
        step = current_step()
        try:
            decisions.append(("read", await step.fetch(sql)))
        except (ReadFailed, ReadRefused) as e:
            decisions.append((str(e), getattr(e, "sqlstate", "25006")))
        if len(decisions) == 1:
            async with saver.transaction() as tx:
                assert not await tx.fetch("SELECT * FROM journal")  # neither sees what the other writes
                await tx.execute(change)
        step.stage(LOG, "ordered")
        return {"n": 1}

    graph = chain(saver, node)
    try:
        await graph.ainvoke({"n": 0}, thread)
    except StepConflict:
        await graph.ainvoke(None, thread)
    assert decisions[0][1] == sqlstate
    assert len(decisions) == 2
    assert decisions[1] != decisions[0]


@pytest.mark.parametrize("hold_idle", [0, "forever"])
@pytest.mark.parametrize("kind", REJECTIONS)
async def test_a_rejection_that_still_stands_makes_nothing_run_again(
    saver: TransactionalSaver, stock: Bank, thread: RunnableConfig, kind: str, hold_idle: float | str
) -> None:
    runs: list[int] = []

    async def node(state: Any) -> Any:
        runs.append(1)
        step = current_step()
        with pytest.raises((ReadFailed, ReadRefused)):
            await step.fetch(REJECTIONS[kind][0])
        await stock.set(5, account=2)  # what nobody has read
        step.stage("UPDATE account SET balance = 9 WHERE id = 3")
        return {"n": await step.fetchval("SELECT balance FROM account WHERE id = 1")}

    assert (await chain(saver, node).ainvoke({"n": 0}, thread))["n"] == 100
    assert runs == [1]
    (record,) = await steps_of(saver, thread)
    assert record.reads == 2
    assert record.drifts == 0


@pytest.mark.parametrize("hold_idle", [0])
async def test_what_says_nothing_about_the_facts_is_no_fact(
    saver: TransactionalSaver, stock: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        for sql, args in [
            ("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)", ()),
            ("SELECT $1::int", ("no number",)),
            ("SELECT $1::int", (1, 2)),
        ]:
            with pytest.raises(ReadFailed):
                await step.fetch(sql, *args)
        return {"n": await step.fetchval("SELECT 1")}

    assert (await chain(saver, node).ainvoke({"n": 0}, thread))["n"] == 1
    (record,) = await steps_of(saver, thread)
    assert record.reads == 1


@pytest.mark.parametrize("hold_idle", [0])
async def test_a_commit_that_gets_no_answer_keeps_the_results(
    saver: TransactionalSaver, stock: Bank, thread: RunnableConfig
) -> None:
    runs: list[int] = []
    sql = (
        "SELECT CASE WHEN qty = 0 THEN 0 ELSE pg_cancel_backend(pg_backend_pid())::int + length(pg_sleep(9)::text) END"
    )

    async def node(state: Any) -> Any:
        runs.append(await current_step().fetchval(sql + " FROM stock WHERE id = 1"))
        await stock.do("UPDATE stock SET qty = 1 WHERE id = 1")
        current_step().stage(LOG, "once")
        return {"n": 1}

    graph = chain(saver, node)
    with pytest.raises(ReadFailed) as e:
        await graph.ainvoke({"n": 0}, thread)
    assert e.value.sqlstate == "57014"
    await stock.do("UPDATE stock SET qty = 0 WHERE id = 1")
    await graph.ainvoke(None, thread)
    assert runs == [0]
    assert await stock.journal() == ["once"]


@pytest.mark.parametrize("state", sorted(asyncpg.exceptions._base.PostgresMessageMeta._message_map))
def test_every_sqlstate_is_a_fact_or_can_be_otherwise_the_next_time(state: str) -> None:
    error = asyncpg.PostgresError.new({"S": "ERROR", "V": "ERROR", "C": state, "M": "said"})
    passing = {"08", "25", "40", "53", "57", "58", "F0", "XX"}
    is_fact = (state[:2] not in passing and state not in ("55P03", "HV00N")) or state == "25006"
    assert (rejected("SELECT 1", error) is not None) == is_fact


async def test_a_plan_that_an_altered_table_outdated_is_made_again(
    saver: TransactionalSaver, stock: Bank, thread: RunnableConfig
) -> None:
    async def before(state: Any) -> Any:
        return {"seen": [len(await current_step().fetchrow("SELECT * FROM stock WHERE id = 2") or ())]}

    async def after(state: Any) -> Any:
        await stock.do("ALTER TABLE stock ADD more int")
        return {"seen": [len(await current_step().fetchrow("SELECT * FROM stock WHERE id = 2") or ())]}

    assert (await chain(saver, before, after).ainvoke({"seen": []}, thread))["seen"] == [6, 7]


async def test_a_statement_that_ended_the_transaction_is_refused_and_its_connection_closed(
    saver: TransactionalSaver,
) -> None:
    """No statement that gets past the guards is known to: this is what stands behind them."""
    snapshot = Snapshot(saver.database)
    async with snapshot.lock:
        await snapshot.pin([])
        conn = snapshot.conn
        with pytest.raises(StatementRefused, match="ended the transaction"):
            await snapshot.ask("COMMIT", ())
        assert snapshot.state is SnapshotState.CLOSED
        with pytest.raises(asyncpg.InterfaceError):
            conn.is_closed()  # type: ignore[union-attr]  # the pool has it back
    assert saver.database.connections.lent == 0


ORDERED = {
    "unnest": "SELECT unnest(steps) FROM stock WHERE id = 1",
    "json": "SELECT jsonb_array_elements_text(doc) FROM stock WHERE id = 1",
    "order with a comment": "SELECT v FROM unnest((SELECT steps FROM stock WHERE id = 1)) WITH ORDINALITY u (v, n) "
    "ORDER /* by place */ BY n",
    "union": "SELECT steps[1] FROM stock WHERE id = 1 UNION ALL SELECT steps[2] FROM stock WHERE id = 1",
    "values": "VALUES ((SELECT steps[1] FROM stock WHERE id = 1)), ((SELECT steps[2] FROM stock WHERE id = 1))",
    "a view": "SELECT * FROM steps",
    "a view of a view": "SELECT step FROM public.of_view",
    "a table": "TABLE steps",
    "a function like a column": "SELECT stock.todo FROM stock WHERE id = 1",
    "a function with the name of another": "SELECT count(stock) FROM stock WHERE id = 1",
}


@pytest.mark.parametrize("hold_idle", [0])
@pytest.mark.parametrize("kind", ORDERED)
async def test_another_order_is_a_change_where_one_was_promised(
    saver: TransactionalSaver, stock: Bank, thread: RunnableConfig, kind: str
) -> None:
    first: list[str] = []

    async def node(state: Any) -> Any:
        rows = await current_step().fetch(ORDERED[kind])
        first.append(rows[0][0])
        if len(first) == 1:
            await stock.do("UPDATE stock SET steps = '{test,deploy}', doc = '[\"test\", \"deploy\"]' WHERE id = 1")
        current_step().stage(LOG, first[-1])
        return {"n": 1}

    graph = chain(saver, node)
    with pytest.raises(StepConflict):
        await graph.ainvoke({"n": 0}, thread)
    await graph.ainvoke(None, thread)
    assert first == ["deploy", "test"]


@pytest.mark.parametrize("hold_idle", [0])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM stock",
        "TABLE account",
        "SELECT * FROM plain",
        "SELECT a.id, count(*) FROM stock a JOIN stock b USING (id) WHERE a.qty >= 0 GROUP BY a.id",
        "WITH x AS (SELECT id FROM stock) SELECT id FROM x",
    ],
)
async def test_the_order_of_a_heap_is_no_fact(
    saver: TransactionalSaver, stock: Bank, thread: RunnableConfig, sql: str
) -> None:
    orders: list[Any] = []

    async def node(state: Any) -> Any:
        orders.append(await current_step().fetch(sql))
        for table in ("stock", "account"):
            await stock.do(f"UPDATE {table} SET id = id WHERE id = 1")  # moves the row, and changes nothing
        orders.append(await stock.do(sql))
        current_step().stage(LOG, "once")
        return {"n": 1}

    await chain(saver, node).ainvoke({"n": 0}, thread)
    assert len(orders) == 2
    assert sorted(map(repr, orders[0])) == sorted(map(repr, orders[1]))


@pytest.mark.parametrize("hold_idle", [0])
async def test_rows_without_an_exact_form_are_refused_and_say_what_to_do(
    saver: TransactionalSaver, stock: Bank, thread: RunnableConfig
) -> None:
    class Opaque:
        pass

    async with saver.database.connections.borrow() as conn:
        await conn.set_type_codec("date", schema="pg_catalog", encoder=str, decoder=lambda _: Opaque(), format="text")

    async def node(state: Any) -> Any:
        with pytest.raises(ReadFailed, match=r"Opaque cannot be compared exactly. Read the column as text"):
            await current_step().fetch("SELECT day FROM stock WHERE id = 2")
        current_step().stage(LOG, "once")
        return {"n": 1}

    await chain(saver, node).ainvoke({"n": 0}, thread)
    assert await stock.journal() == ["once"]


@pytest.mark.parametrize(
    ("sql", "holds"),
    [
        ("SELECT id, qty FROM stock ORDER BY id", True),
        ("SELECT id, qty FROM stock", True),
        ("SELECT id FROM plain", True),
        ("SELECT unnest(steps) FROM stock WHERE id = 1", False),  # it did not compare their order
        ("SELECT step FROM steps", False),
        ("SELECT * FROM steps LIMIT 1", True),
        ("SELECT '((0,0),(1,1))'::path", False),  # nor these at all
    ],
)
async def test_facts_of_the_first_release_hold_where_it_compared_exactly(
    saver: TransactionalSaver, stock: Bank, sql: str, holds: bool
) -> None:
    rows = [tuple(row) for row in await stock.do(sql)]
    hashes = [blake2b(repr(row).encode(), digest_size=16).digest() for row in rows]
    digest = blake2b(b"".join(hashes if "ORDER" in sql else sorted(hashes)), digest_size=16).digest()
    snapshot = Snapshot(saver.database)
    async with snapshot.lock:
        moved = await snapshot.pin([(Task("task"), [Read(sql, (), digest)], ())])
        assert bool(moved) is not holds
        await snapshot.lost()
        assert await snapshot.pin([(Task("task"), [Read(sql, (), digest[::-1])], ())])
        await snapshot.lost()
