"""Reads that are validated in one statement: as many as there are, and with the same result as one by one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import current_step
from superstep.checkpointer.database.recent import Recent
from superstep.checkpointer.step.read_set import Read, Staged
from superstep.checkpointer.step.snapshot import Snapshot
from superstep.checkpointer.step.task import Task
from superstep.checkpointer.step.together import all_hold
from superstep.checkpointer.step.tokens import with_parameters_from
from superstep.runtime.faults import ReadFailed
from tests.support.bank import BALANCE
from tests.support.graphs import chain, fan, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank

pytestmark = pytest.mark.parametrize("hold_idle", [0], ids=["replay"])

# Each with how it moves, if it can.
READS: list[tuple[str, tuple[Any, ...], str | None]] = [
    (BALANCE, (1,), "UPDATE account SET balance = 7 WHERE id = 1"),
    (BALANCE, (2,), "UPDATE account SET balance = 7 WHERE id = 2"),
    ("SELECT id, balance FROM account WHERE id > $1 ORDER BY id DESC;", (3,), "DELETE FROM account WHERE id = 5"),
    ("SELECT id FROM account WHERE id = 99 -- nobody", (), "INSERT INTO account VALUES (99, 1)"),
    ("WITH rich AS (SELECT * FROM account WHERE balance >= $2) SELECT id FROM rich WHERE id < $1", (4, 50), None),
    ("SELECT '$1' AS literal, $1::text AS \"a $1\", $$ $2 $$ AS dollars /* $3 */", ("x",), None),
    ("VALUES (1, 'one'), (2, NULL)", (), None),
    ("TABLE account", (), "INSERT INTO account VALUES (98, 1)"),
    ("SELECT note, note FROM account WHERE id = 1", (), "UPDATE account SET note = 'n' WHERE id = 1"),
    ("SELECT ARRAY[1, 2] AS numbers, now() - now() AS nothing", (), None),
    ("SELECT 'happy'::mood AS mood, count(*) FROM account", (), "INSERT INTO account VALUES (97, 1)"),
    ("SELECT 1.50 AS price, 'NaN'::float8 AS nan, '\\x00ff'::bytea AS bytes, '{\"a\": 1}'::jsonb AS json", (), None),
    ("SELECT generate_series(1, 3) AS g ORDER BY g DESC", (), None),
    ("SHOW server_version", (), None),
]
RATE = "SELECT 10 / divisor FROM rate WHERE tenant = current_setting('app.tenant')"
REJECTED = "SELECT 10 / balance FROM account WHERE id = 4"


@pytest.fixture(autouse=True)
async def mood(bank: Bank) -> None:
    await bank.do("CREATE TYPE mood AS ENUM ('happy', 'sad')")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements of the user's that are sent, from the time when `clear` was called."""
    sent: list[str] = []
    fetch = Snapshot.fetch

    async def noted(self: Snapshot, sql: str, args: Sequence[Any]) -> Any:
        sent.append(sql)
        return await fetch(self, sql, args)

    monkeypatch.setattr(Snapshot, "fetch", noted)
    return sent


def _flow(
    saver: TransactionalSaver, reads: Sequence[tuple[str, tuple[Any, ...], Any]], moves: Callable[[], Any]
) -> Any:
    seen: list[Any] = []

    async def node(_: Any) -> Any:
        step = current_step()
        seen.append([[tuple(row) for row in await step.fetch(sql, *args)] for sql, args, _ in reads])
        await moves()
        step.stage("INSERT INTO journal (line) VALUES ('done')")
        return {"n": len(seen)}

    return transactional(chain(saver, node))


async def _nothing() -> None:
    pass


async def test_what_holds_takes_one_statement(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, fetched: list[str]
) -> None:
    reads = [(BALANCE, (at % 5 + 1,), None) for at in range(5)] + [("SELECT count(*) FROM account", (), None)]

    async def clear() -> None:
        fetched.clear()

    assert (await _flow(saver, reads, clear).ainvoke({}, thread))["n"] == 1
    assert len(fetched) == 1
    (step,) = await steps_of(saver, thread)
    assert (step.reads, step.drifts, step.commit) == (6, 0, "replay")


async def test_each_of_all_kinds_holds(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    """Those that cannot be asked with others are asked by themselves, and nothing runs again for it."""
    for _ in range(2):  # the second time it is known which
        assert (await _flow(saver, READS, _nothing).ainvoke({}, thread))["n"] == 1


@pytest.mark.parametrize("at", [at for at, (*_, move) in enumerate(READS) if move is not None])
async def test_one_that_moved_is_found_among_many(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig], at: int
) -> None:
    move = READS[at][2]
    moves = iter([move])

    async def once() -> None:
        if sql := next(moves, None):
            await bank.do(sql)

    thread = new_thread()
    assert (await _flow(saver, READS, once).ainvoke({}, thread))["n"] == 2
    (step,) = await steps_of(saver, thread)
    assert step.drifts == 1


async def test_a_rejection_among_them_is_a_fact_as_ever(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, fetched: list[str]
) -> None:
    """Read as rejected, validated as rejected; and one that is rejected only now has moved."""
    await bank.set(0, 4)
    ran = 0

    async def node(_: Any) -> Any:
        nonlocal ran
        ran += 1
        step = current_step()
        rows = [await step.fetchval(BALANCE, at) for at in (1, 2, 3)]
        try:
            rows.append(await step.fetchval(REJECTED))
        except Exception as e:
            rows.append(type(e).__name__)
        if ran == 2:
            await bank.set(0, 4)
        if ran == 1:
            await bank.set(5, 4)
        step.stage("INSERT INTO journal (line) VALUES ($1)", str(rows))
        return {"n": ran}

    assert (await transactional(chain(saver, node)).ainvoke({}, thread))["n"] == 3
    assert await bank.journal() == ["[100, 100, 100, 'ReadFailed']"]


async def test_a_column_that_becomes_unreadable_within_a_row_is_read_by_itself(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """The type is another one now, and one that the driver cannot read there: the flow goes on all the same."""
    reads: list[tuple[str, tuple[Any, ...], Any]] = [
        ("SELECT note FROM account WHERE id = 1", (), None),
        ("SELECT balance FROM account WHERE id = 1", (), None),
    ]
    moves = iter(["ALTER TABLE account ALTER note TYPE mood USING 'happy'"])

    async def once() -> None:
        if sql := next(moves, None):
            await bank.do(sql)

    thread = new_thread()
    assert (await _flow(saver, reads, once).ainvoke({}, thread))["n"] == 2


@pytest.mark.parametrize(
    ("sql", "start", "becomes"),
    [
        ("SELECT $1, $2", 0, "SELECT $1, $2"),
        ("SELECT $1, $12", 3, "SELECT $4, $15"),
        (
            "SELECT '$1', \"$1\", $tag$ $1 $tag$, E'\\'$1' -- $1\n, $1",
            1,
            "SELECT '$1', \"$1\", $tag$ $1 $tag$, E'\\'$1' -- $1\n, $2",
        ),
        ("SELECT a$1, $1", 1, "SELECT a$1, $2"),
        ("SELECT 1;", 5, "SELECT 1"),
        ("SELECT 1; ; -- done", 5, "SELECT 1  -- done"),
        ("SELECT 1; SELECT 2", 5, None),
        ("SELECT 'open", 1, None),
        ("SELECT /* open", 1, None),
    ],
)
def test_parameters_are_numbered_on(sql: str, start: int, becomes: str | None) -> None:
    assert with_parameters_from(sql, start) == becomes


async def test_all_pairs_say_the_same_together_as_alone(bank: Bank, saver: TransactionalSaver) -> None:
    """Of any two, both hold; and whatever moves, nothing that has moved is said to hold."""
    snapshot = Snapshot(saver.database)
    async with snapshot.lock:
        await snapshot.pin([])
        reads = []
        for sql, args, _ in READS:
            answer = await snapshot.ask(sql, args)
            reads.append(Read(sql, args, answer.digest, columns=answer.columns))
        await snapshot.lost()
        together = 0
        for one, other in itertools.permutations(reads, 2):
            await snapshot.pin([])
            together += await all_hold(snapshot, [one, other], Recent(10))
            digest = b"\x02" + bytes(32) if one.digest == other.digest else one.digest
            wrong = Read(other.sql, other.args, digest, columns=other.columns)
            assert not await all_hold(snapshot, [one, wrong], Recent(10))
            await snapshot.lost()
        assert together >= 70  # of 182: SHOW, TABLE, an array and an enum never are


async def test_a_column_may_have_any_name(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    """Also that of the subquery: a row is meant, and not its column."""
    await bank.do("CREATE TABLE named (q text, b text)")
    await bank.do("INSERT INTO named VALUES ('a', 'b')")
    reads: list[tuple[str, tuple[Any, ...], Any]] = [("SELECT q, b FROM named", (), None), (BALANCE, (1,), None)]
    moves = iter(["UPDATE named SET q = 'ab', b = 'moved'"])

    async def once() -> None:
        if sql := next(moves, None):
            await bank.do(sql)

    assert (await _flow(saver, reads, once).ainvoke({}, thread))["n"] == 2


@pytest.mark.parametrize("sql", ["SELECT * FROM named", "SELECT named.* FROM named", "TABLE named"])
async def test_columns_that_change_their_names_have_moved(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, sql: str
) -> None:
    await bank.do("CREATE TABLE named (a int, b int)")
    await bank.do("INSERT INTO named VALUES (1, 2)")
    reads: list[tuple[str, tuple[Any, ...], Any]] = [(sql, (), None), (BALANCE, (1,), None)]
    moves = iter([("a TO t", "b TO a", "t TO b")])

    async def once() -> None:
        for rename in next(moves, ()):
            await bank.do(f"ALTER TABLE named RENAME {rename}")

    assert (await _flow(saver, reads, once).ainvoke({}, thread))["n"] == 2


@pytest.mark.parametrize("moves", [False, True])
async def test_reads_keep_their_order_around_one_that_is_asked_by_itself(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, moves: bool
) -> None:
    """A function of the user's has set what the rejected one rests on, and sets something else after it."""
    await bank.do("CREATE TABLE rate (tenant text, divisor int)")
    await bank.do("INSERT INTO rate VALUES ('1', 0), ('2', $1)", 0 if moves else 5)
    await bank.do(
        "CREATE FUNCTION set_tenant(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', t, true) $$"
    )
    said: list[Any] = []

    async def node(_: Any) -> Any:
        step = current_step()
        await step.fetch("SELECT set_tenant($1)", "1")
        try:
            said.append(await step.fetchval(RATE))
        except ReadFailed:
            said.append(None)
        await step.fetch("SELECT set_tenant($1)", "2")
        await step.fetch(BALANCE, 1)
        if moves and len(said) == 1:
            await bank.do("UPDATE rate SET divisor = 5 WHERE tenant = '1'")
        step.stage("INSERT INTO journal (line) VALUES ('done')")
        return {"n": len(said)}

    await transactional(chain(saver, node)).ainvoke({}, thread)
    assert said == ([None, 2] if moves else [None])


async def test_settings_between_reads_hold_after_the_writes_of_siblings_too(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    await bank.do("CREATE TABLE rate (tenant text, divisor int)")
    await bank.do("INSERT INTO rate VALUES ('1', 0), ('2', 0)")
    said: list[Any] = []

    async def a(_: Any) -> Any:
        current_step().stage("UPDATE rate SET divisor = 5 WHERE tenant = '1'")

    async def b(_: Any) -> Any:
        step = current_step()
        await step.fetch("SELECT set_config('app.tenant', $1, true)", "1")
        try:
            said.append(await step.fetchval(RATE))
        except ReadFailed:
            said.append(None)
        await step.fetch("SELECT set_config('app.tenant', $1, true)", "2")
        step.stage("INSERT INTO journal (line) VALUES ('done')")

    await transactional(fan(saver, a, b)).ainvoke({"n": 0}, thread)
    assert said[-1] == 2


async def test_staged_writes_that_reads_were_made_on_top_of_are_not_under_those_of_others(
    saver: TransactionalSaver, bank: Bank
) -> None:
    """They are applied at the moment; what else is validated in that transaction is validated without them."""
    snapshot = Snapshot(saver.database)
    before = [Read(BALANCE, (at,), b"", columns=("balance",)) for at in (1, 2)]
    debit = Staged("UPDATE account SET balance = balance - 1 WHERE id = $1", (1,))
    async with snapshot.lock:
        await snapshot.pin([])
        log = [Read(r.sql, r.args, (await snapshot.ask(r.sql, r.args)).digest, columns=r.columns) for r in before]
        await snapshot.lost()
        await bank.set(101, 1)  # with the debit on top of it the balance is what it was
        await snapshot.pin([])
        await snapshot.ask(BALANCE, (3,), [debit])
        assert await snapshot.replay.run(snapshot, [(Task("caller"), log, ())]) != []
        await snapshot.lost()
