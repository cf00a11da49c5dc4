"""The one staged write of a super-step, in the statement of its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.commit.carrying import target_of
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import StagedWriteFailed, StaleRun, StepConflict
from tests.support.bank import BALANCE, DEBIT, LOG, SET
from tests.support.graphs import chain, fan, steps_of
from tests.support.statements import Log, logged_saver

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

    NewThread = Callable[[], RunnableConfig]

pytestmark = pytest.mark.usefixtures("no_guards")


@pytest.mark.parametrize(
    ("sql", "may"),
    [
        (DEBIT, True),
        (LOG, True),
        ("DELETE FROM journal; -- all", True),
        ("INSERT INTO journal (line) SELECT line || 'returning' FROM journal ON CONFLICT DO NOTHING", True),
        ('UPDATE account SET "returning" = 1', True),
        ("UPDATE account SET balance = 1 RETURNING id", False),
        ("WITH x AS (SELECT 1) UPDATE account SET balance = 1", False),
        ("MERGE INTO account USING journal ON true WHEN MATCHED THEN DELETE", False),
        ("SELECT set_config('a.b', '1', true)", False),
        ("CREATE TABLE x (a int)", False),
        ("UPDATE account SET note = 'unfinished", False),
    ],
)
def test_which_may_go_along(sql: str, may: bool) -> None:
    assert (target_of(sql) is not None) is may


def writes(sql: str, *args: Any, expect_rows: int | None = None, **then: Any) -> Any:
    async def node(state: Any) -> Any:
        current_step().stage(sql, *args, expect_rows=expect_rows)
        return {"n": 1, **then}

    return node


async def learned(saver: TransactionalSaver, new_thread: NewThread, sql: str, *args: Any) -> None:
    """It is applied by itself, and goes along from now on."""
    assert sql not in saver.database.carries
    await chain(saver, writes(sql, *args)).ainvoke({}, new_thread())
    assert sql in saver.database.carries


async def test_it_goes_along_once_the_database_has_accepted_its_text(database_url: str, new_thread: NewThread) -> None:
    log = Log()
    async with logged_saver(database_url, log) as saver:
        flow = chain(saver, writes(SET, 7, 3, expect_rows=1))
        first = await log.during(flow.ainvoke({}, new_thread()))
        second = await log.during(flow.ainvoke({}, new_thread()))
        async with saver.transaction() as tx:
            assert await tx.fetchval(BALANCE, 3) == 7
    assert SET in first
    assert SET not in second
    assert not any("WITH staged AS" in each for each in first)
    assert sum("WITH staged AS" in each for each in second) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE account SET balance = $2 WHERE id = $1 AND balance <> $2 AND $2 > 0",
        "UPDATE account SET balance = $2 WHERE id = $1::int;",
        "UPDATE account SET balance = $2 /* not $3 */ WHERE id = $1 -- and no more",
        "INSERT INTO account AS own SELECT staged.id, $2 FROM account staged WHERE id = $1 "
        "ON CONFLICT (id) DO UPDATE SET balance = EXCLUDED.balance",
    ],
)
async def test_parameters_and_names_stay_its_own(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread, sql: str
) -> None:
    await learned(saver, new_thread, sql, 1, 5)
    result = await chain(saver, writes(sql, 1, 6, expect_rows=1)).ainvoke({}, new_thread())
    assert result["n"] == 1
    assert await bank.balance() == 6


async def test_tables_may_be_called_as_its_parts_are(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread
) -> None:
    for name in ("own", "vals", "writes", "stored", "staged"):
        await bank.do(f"CREATE TABLE {name} (n int)")
        sql = f"INSERT INTO {name} SELECT count(*) FROM {name}"
        await learned(saver, new_thread, sql)
        await chain(saver, writes(sql, expect_rows=1)).ainvoke({}, new_thread())
        assert [row["n"] for row in await bank.do(f"SELECT n FROM {name} ORDER BY n")] == [0, 1]


async def test_other_rows_than_expected_are_a_conflict_and_nothing_is_written(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread
) -> None:
    sql = "UPDATE account SET balance = 7 WHERE balance = 100"
    await learned(saver, new_thread, sql)
    await bank.do("UPDATE account SET balance = 100 WHERE id < 3")
    thread = new_thread()
    with pytest.raises(StepConflict):
        await chain(saver, writes(sql, expect_rows=1)).ainvoke({}, thread)
    assert [await bank.balance(n) for n in (1, 2)] == [100, 100]
    await bank.set(7, account=2)
    assert (await chain(saver, writes(sql, expect_rows=1)).ainvoke(None, thread))["n"] == 1
    assert await bank.balance() == 7


async def test_what_the_database_rejects_is_told_as_if_it_had_gone_by_itself(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread
) -> None:
    await bank.do("ALTER TABLE account ADD CHECK (balance >= 0)")
    await learned(saver, new_thread, SET, 7, 1)
    thread = new_thread()
    with pytest.raises(StagedWriteFailed) as caught:
        await chain(saver, writes(SET, -1, 1)).ainvoke({}, thread)
    assert (caught.value.sqlstate, caught.value.sql, caught.value.task) == ("23514", SET, "node")
    with pytest.raises(StagedWriteFailed):
        await chain(saver, writes(SET, "no number", 1)).ainvoke({}, new_thread())
    assert await bank.balance() == 7
    assert SET in saver.database.carries, "that was no fault of the text"
    assert (await chain(saver, writes(SET, 1, 1)).ainvoke(None, thread))["n"] == 1
    assert [step.repairs for step in await steps_of(saver, thread)] == [0]


async def test_a_text_that_cannot_be_part_of_another_is_sent_by_itself_from_then_on(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread
) -> None:
    await learned(saver, new_thread, LOG, "one")
    await bank.do("CREATE RULE also AS ON INSERT TO journal DO ALSO UPDATE account SET balance = balance - 1")
    for line in ("two", "three"):
        assert (await chain(saver, writes(LOG, line)).ainvoke({}, new_thread()))["n"] == 1
    assert await bank.journal() == ["one", "two", "three"]
    assert await bank.balance() == 98
    assert LOG not in saver.database.carries


@pytest.mark.parametrize(
    ("sql", "target"),
    [
        ("UPDATE account SET balance = 1", ('"account"', 16)),
        ('update only "Odd"".name" AS x set a = 1', ('"Odd"".name"', 16)),
        ("INSERT INTO bank.journal (line) VALUES (1) ON CONFLICT DO NOTHING", ('"bank"."journal"', 20)),
        ("INSERT INTO journal VALUES ('on conflict')", ('"journal"', 4)),
        ("DELETE FROM ONLY a . b . c USING d", ('"a"."b"."c"', 8)),
        ("DELETE FROM journal; -- all", ('"journal"', 8)),
        ("MERGE INTO account USING journal ON true WHEN MATCHED THEN DELETE", None),
        ("UPDATE (account) SET a = 1", None),
    ],
)
def test_what_a_statement_writes_to(sql: str, target: tuple[str, int] | None) -> None:
    assert target_of(sql) == target


NOTHING = "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
CHILD = "INSERT INTO child VALUES ($1)"
TO_VIEW = "INSERT INTO of_accounts VALUES ($1, 1)"


@pytest.mark.parametrize(
    ("made", "sql"),
    [
        ("CREATE TABLE child (account int REFERENCES account)", CHILD),
        (
            "CREATE TABLE child (account int) PARTITION BY LIST (account); CREATE TABLE x PARTITION OF child DEFAULT",
            CHILD,
        ),
        ("CREATE TABLE child (account int); CREATE TABLE x () INHERITS (child)", CHILD),
        ("CREATE TABLE child (account int); ALTER TABLE child ENABLE ROW LEVEL SECURITY", CHILD),
        ("CREATE TABLE child (account int); CREATE TRIGGER t AFTER INSERT ON child EXECUTE FUNCTION nothing()", CHILD),
        ("CREATE TABLE child (account int); CREATE RULE r AS ON DELETE TO child DO ALSO SELECT 1", CHILD),
        ("CREATE VIEW of_accounts AS SELECT id, balance FROM account", TO_VIEW),
        ("CREATE TABLE child (account int REFERENCES account)", "DELETE FROM account WHERE id = $1"),
    ],
)
async def test_nothing_goes_along_whose_statement_does_more_at_its_end(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread, made: str, sql: str
) -> None:
    """It would do that with the thread's row locked, where others lock it last."""
    async with saver.transaction() as tx:
        await tx.execute(f"DELETE FROM account WHERE id = 5; {NOTHING}; {made}")
    await chain(saver, writes(sql, 4 if sql == CHILD else 5)).ainvoke({}, new_thread())
    assert sql in saver.database.apart
    assert sql not in saver.database.carries


@pytest.mark.parametrize(
    ("made", "sql"),
    [
        ("CREATE TABLE child (account int REFERENCES account)", DEBIT),
        ("CREATE TABLE child (account int); CREATE TRIGGER t BEFORE INSERT ON child EXECUTE FUNCTION nothing()", CHILD),
        ("CREATE TABLE child (account int); CREATE TRIGGER t AFTER DELETE ON child EXECUTE FUNCTION nothing()", CHILD),
    ],
)
async def test_what_does_nothing_at_its_end_goes_along(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread, made: str, sql: str
) -> None:
    async with saver.transaction() as tx:
        await tx.execute(f"{NOTHING}; {made}")
    await learned(saver, new_thread, sql, 1)


async def test_what_takes_too_long_together_is_sent_apart_from_then_on(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread
) -> None:
    await learned(saver, new_thread, DEBIT, 1)
    async with saver.transaction() as tx:
        await tx.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; IF current_query() LIKE "
            "'WITH staged%' THEN RAISE SQLSTATE '57014'; END IF; RETURN NEW; END $$;"
            "CREATE TRIGGER slow BEFORE UPDATE ON account FOR EACH ROW EXECUTE FUNCTION slow()"
        )
    for _ in range(2):
        thread = new_thread()
        assert (await chain(saver, writes(DEBIT, 1)).ainvoke({}, thread))["n"] == 1
        assert [step.repairs for step in await steps_of(saver, thread)] == [0]
    assert DEBIT not in saver.database.carries
    assert await bank.balance() == 97


async def test_a_row_that_came_meanwhile_is_a_conflict(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread
) -> None:
    await bank.do("CREATE TABLE seat (name text PRIMARY KEY, who text)")
    read, write = "SELECT who FROM seat WHERE name = $1", "INSERT INTO seat VALUES ($1, 'us')"
    await learned(saver, new_thread, write, "A0")
    found: list[Any] = []

    async def takes(state: Any) -> Any:
        step = current_step()
        found.append(await step.fetchval(read, "A1"))
        if found[-1] is None:
            step.stage(write, "A1")
        return {"n": len(found)}

    async def others() -> None:
        failpoints.disarm("commit.staged")
        async with saver.database.connections.borrow() as conn, conn.transaction(isolation="read_committed"):
            await conn.execute("INSERT INTO seat VALUES ('A1', 'them')")

    failpoints.arm("commit.staged", others)
    assert (await transactional(chain(saver, takes)).ainvoke({}, new_thread()))["n"] == 2
    assert found == [None, "them"]


async def test_a_run_that_has_lost_its_thread_writes_nothing(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread
) -> None:
    await learned(saver, new_thread, SET, 7, 1)
    thread = new_thread()

    async def taken_over() -> None:
        failpoints.disarm("commit.staged")
        await chain(saver, writes(LOG, "another")).ainvoke({}, thread)

    failpoints.arm("commit.staged", taken_over)
    with pytest.raises(StaleRun):
        await chain(saver, writes(SET, 1, 1)).ainvoke({}, thread)
    assert await bank.balance() == 7
    assert await bank.journal() == ["another"]


async def test_it_is_applied_once_although_the_answer_to_commit_is_lost(
    saver: TransactionalSaver, bank: Bank, new_thread: NewThread
) -> None:
    await learned(saver, new_thread, DEBIT, 1)

    async def lose_it() -> None:
        raise asyncpg.ConnectionDoesNotExistError

    failpoints.arm("commit.lost_answer", lose_it)
    assert (await chain(saver, writes(DEBIT, 1, expect_rows=1)).ainvoke({}, new_thread()))["n"] == 1
    assert await bank.balance() == 98


async def test_of_several_tasks_it_goes_along_if_the_last_one_writes_and_no_other(
    database_url: str, new_thread: NewThread
) -> None:
    async def reads(state: Any) -> Any:
        return {"seen": [await current_step().fetchval(BALANCE, 2)]}

    async def debits(state: Any) -> Any:
        current_step().stage(DEBIT, 1)
        return {"seen": ["debited"]}

    def named(name: str, does: Any) -> Any:
        async def node(state: Any) -> Any:
            return await does(state)

        node.__name__ = name
        return node

    log = Log()
    async with logged_saver(database_url, log) as saver:
        for first, last, along in ((reads, debits, True), (debits, reads, False), (debits, debits, False)):
            flow = fan(saver, named("a", first), named("b", last))
            for _ in range(2):
                sent = await log.during(flow.ainvoke({"seen": []}, new_thread()))
            assert any("WITH staged AS" in each for each in sent) is along
