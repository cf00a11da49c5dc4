"""Reads without the read-only subtransaction: which may do without, and what happens if one fails there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database.recent import Recent
from superstep.checkpointer.step import protection
from superstep.checkpointer.step.protection import Protection, ReadAgain
from superstep.checkpointer.step.read_set import Read
from superstep.checkpointer.step.subtransaction import (
    BARE,
    LIMITED,
    MEND,
    NEXT,
    NEXT_WRITABLE,
    OPEN,
    OPEN_WRITABLE,
    PROTECTED,
    WRITES,
)
from superstep.runtime.faults import ReadFailed, ReadRefused
from tests.support.bank import BALANCE, SET, SHARE
from tests.support.graphs import chain
from tests.support.statements import Log, logged_saver

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

pytestmark = pytest.mark.usefixtures("no_guards")

HARMLESS = "SELECT balance FROM account WHERE id = $1"
OTHER = "SELECT note FROM account WHERE id = $1"


def knowing(*harmless: str) -> Recent:
    known = Recent(10)
    for each in harmless:
        known.add(each)
    return known


def begins(sent: list[str]) -> list[str]:
    return [each for each in sent if each.startswith("BEGIN")]


@pytest.mark.parametrize(
    ("sql", "harmless"),
    [
        (HARMLESS, True),
        ("SELECT count(*), max(balance) FROM account JOIN journal ON true", True),
        ("WITH rich AS (SELECT * FROM account WHERE balance > 1) SELECT * FROM rich", True),
        ("SELECT nextval('s')", False),
        ("SELECT my_function(balance) FROM account", False),
        ("SELECT public.max(balance) FROM account", False),
        ("SELECT balance FROM account WHERE id = $1 FOR UPDATE", False),
        ("SELECT balance FROM account FOR KEY SHARE", False),
        ("WITH gone AS (DELETE FROM account RETURNING id) SELECT * FROM gone", False),
        ("SELECT balance INTO x FROM account", False),
        ("SELECT set_config('a.b', '1', true)", False),
        ("SHOW search_path", False),
    ],
)
def test_only_plain_scans_are_taken_to_be_harmless(sql: str, harmless: bool) -> None:
    known = Recent(10)
    made = Protection(known, at_once=False)
    assert made.begin([], [sql], for_commit=False) == OPEN
    made.answered(sql)
    assert (sql in known) is harmless
    assert made.begin([], [sql], for_commit=False) == (BARE if harmless else OPEN)


def test_what_is_answered_without_protection_says_nothing() -> None:
    known = knowing(HARMLESS)
    made = Protection(known, at_once=True)
    assert made.begin([], [HARMLESS], for_commit=False) == f"{BARE}; {LIMITED}"
    made.answered(SHARE)
    assert SHARE not in known


def test_what_failed_without_protection_is_not_taken_to_be_harmless_any_more() -> None:
    known = knowing(HARMLESS)
    made = Protection(known, at_once=False)
    made.begin([], [HARMLESS], for_commit=True)
    with pytest.raises(ReadAgain):
        made.refuse_to_mend(HARMLESS)
    assert HARMLESS not in known
    assert made.begin([], [], for_commit=True) == OPEN, "and this snapshot is protected from now on"
    made.refuse_to_mend(HARMLESS)


class Told:
    """In the place of a connection: what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def execute(self, text: str) -> None:
        self.texts.append(text)


def told(known: Recent) -> tuple[Protection, Any]:
    return Protection(known, at_once=False), Told()


@pytest.mark.parametrize("goes_on", [False, True], ids=["first", "next"])
async def test_with_others_in_the_transaction_harmless_reads_need_no_end_of_read_only(goes_on: bool) -> None:
    made, conn = told(knowing(HARMLESS))
    log = [(None, [Read(HARMLESS, (1,), b"")], ())]
    assert made.begin(log, None, for_commit=True, goes_on=goes_on) == (NEXT_WRITABLE if goes_on else OPEN_WRITABLE)
    assert made.is_on
    await made.begin_writes(conn, goes_along=False)
    assert conn.texts == []


@pytest.mark.parametrize("goes_on", [False, True], ids=["first", "next"])
@pytest.mark.parametrize("unknown", [SHARE, None], ids=["unknown", "on top of writes"])
async def test_other_reads_are_protected_there_too(goes_on: bool, unknown: str | None) -> None:
    made, conn = told(knowing(HARMLESS))
    log = [(None, [Read(unknown or HARMLESS, (1,), b"", after=unknown is None)], ())]
    assert made.begin(log, None, for_commit=True, goes_on=goes_on) == (NEXT if goes_on else OPEN)
    await made.begin_writes(conn, goes_along=False)
    assert conn.texts == [WRITES]


async def test_what_can_write_there_is_protected_before_anything_else_is_read() -> None:
    known = knowing(HARMLESS)
    made, conn = told(known)
    made.begin([], None, for_commit=True, goes_on=True)
    made.answered(OTHER)
    assert OTHER not in known, "it was answered where it could have written"
    assert made.covers([HARMLESS])
    assert not made.covers([HARMLESS, SHARE])
    await made.turn_on(conn)
    assert made.covers([SHARE])
    await made.turn_on(conn)
    await made.begin_writes(conn, goes_along=False)
    assert conn.texts == [PROTECTED, WRITES]


async def test_after_a_failure_there_it_is_protected() -> None:
    made, conn = told(knowing())
    made.begin([], None, for_commit=True, goes_on=True)
    made.refuse_to_mend(HARMLESS)
    await made.mend(conn)
    await made.begin_writes(conn, goes_along=False)
    assert conn.texts == [MEND, WRITES]


async def test_a_text_is_protected_the_first_time(database_url: str, new_thread: Callable[[], RunnableConfig]) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        step.stage(SET, balance - 1, 1, expect_rows=1)
        return {"n": balance}

    log = Log()
    async with logged_saver(database_url, log) as saver:
        flow = chain(saver, node)
        first = await log.during(flow.ainvoke({}, new_thread()))
        second = await log.during(flow.ainvoke({}, new_thread()))
        third = await log.during(flow.ainvoke({}, new_thread()))
    assert [OPEN in sent for sent in (first, second)] == [True, False]
    assert begins(second) == [f"{BARE}; {LIMITED}"]
    sent = third[third.index(f"{BARE}; {LIMITED}") :]
    assert sent[1] == BALANCE
    assert sent[2].startswith("WITH staged AS")
    assert sent[3].startswith("COMMIT")


@pytest.mark.parametrize("hold_idle", [0, 0.25, "forever"])
async def test_a_read_that_is_rejected_without_protection_is_a_fact_all_the_same(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    runs = 0

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        step = current_step()
        seen: list[Any] = [await step.fetchval(BALANCE, 2)]
        try:
            seen.append(await step.fetchval(SHARE, 1))
        except ReadFailed as e:
            seen.append(e.sqlstate)
        seen.append(await step.fetchval(BALANCE, 3))
        step.stage(SET, 7, 4, expect_rows=1)
        return {"seen": seen}

    flow = chain(saver, node)
    assert (await flow.ainvoke({"seen": []}, new_thread()))["seen"] == [100, 1, 100]
    await bank.set(0)
    assert (await flow.ainvoke({"seen": []}, new_thread()))["seen"] == [100, "22012", 100]
    assert SHARE not in saver.database.harmless
    await bank.set(100)
    assert (await flow.ainvoke({"seen": []}, new_thread()))["seen"] == [100, 1, 100]
    assert SHARE in saver.database.harmless
    assert runs == 3


async def test_a_table_that_is_altered_is_read_anew(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    async def node(state: Any) -> Any:
        (row,) = await current_step().fetch("SELECT * FROM account WHERE id = $1", 1)
        return {"seen": [sorted(dict(row))]}

    flow = chain(saver, node)
    for _ in range(2):
        await flow.ainvoke({"seen": []}, new_thread())
    await bank.do("ALTER TABLE account ADD COLUMN remark text")
    assert (await flow.ainvoke({"seen": []}, new_thread()))["seen"] == [["balance", "id", "note", "remark"]]


async def test_what_a_view_begins_to_write_is_part_of_the_super_step_or_refused(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """See `protection`: what is given up. It is there once, with all else, and not if the super-step fails."""
    await bank.do("CREATE VIEW seen AS SELECT balance FROM account WHERE id = 1")
    fails = False

    async def node(state: Any) -> Any:
        balance = await current_step().fetchval("SELECT balance FROM seen")
        if fails:
            raise ZeroDivisionError
        return {"n": balance}

    flow = chain(saver, node)
    for _ in range(2):
        await flow.ainvoke({}, new_thread())
    await bank.do(
        "CREATE FUNCTION noted(n int) RETURNS int LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO journal (line) VALUES ('seen'); RETURN n; END $$"
    )
    await bank.do("CREATE OR REPLACE VIEW seen AS SELECT noted(balance) AS balance FROM account WHERE id = 1")
    fails = True
    with pytest.raises(ZeroDivisionError):
        await flow.ainvoke({}, new_thread())
    assert await bank.journal() == []
    fails = False
    assert (await flow.ainvoke({}, new_thread()))["n"] == 100
    assert await bank.journal() == ["seen"]


async def test_one_that_writes_the_first_time_is_refused_each_time(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    await bank.do(
        "CREATE FUNCTION noted(n int) RETURNS int LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO journal (line) VALUES ('seen'); RETURN n; END $$"
    )
    await bank.do("CREATE VIEW seen AS SELECT noted(balance) AS balance FROM account WHERE id = 1")

    async def node(state: Any) -> Any:
        await current_step().fetchval("SELECT balance FROM seen")

    for _ in range(3):
        with pytest.raises(ReadRefused):
            await chain(saver, node).ainvoke({}, new_thread())
    assert await bank.journal() == []


@pytest.mark.parametrize("reads_again", [True, False])
async def test_a_read_that_is_cancelled_while_protection_is_put_up_harms_nothing(
    saver: TransactionalSaver,
    bank: Bank,
    new_thread: Callable[[], RunnableConfig],
    monkeypatch: pytest.MonkeyPatch,
    reads_again: bool,
) -> None:
    async def learns(state: Any) -> Any:
        return {"n": await current_step().fetchval(BALANCE, 1)}

    for _ in range(2):
        await chain(saver, learns).ainvoke({}, new_thread())
    slow = protection.PROTECTION.replace("SELECT 1", "SELECT pg_sleep(60)")
    monkeypatch.setattr(protection, "PROTECTION", slow)

    async def node(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        read = asyncio.ensure_future(step.fetchval("SELECT length($1::text)", "it has a function of its own"))
        async with asyncio.timeout(20):
            while not await bank.do(
                "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
            ):
                pass
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        if reads_again:
            assert await step.fetchval(BALANCE, 2) == 100
        step.stage(SET, 7, 1)
        return {"n": 1}

    assert (await chain(saver, node).ainvoke({}, new_thread()))["n"] == 1
    assert await bank.balance() == 7
