"""Statements are classified by the words that the server sees in them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import asyncpg
import pytest

from superstep.checkpointer.step.statements import (
    _BEFORE_PARENTHESIS,
    changes_session,
    ends_transaction,
    reads_only,
    scanned,
)

if TYPE_CHECKING:
    from tests.support.bank import Bank


@pytest.mark.parametrize(
    ("sql", "read", "control"),
    [
        ("SELECT 1", True, False),
        ("  ( select 1 ) union select 2", True, False),
        ("/* UPDATE */ -- DELETE\n WITH x AS (SELECT 1) SELECT * FROM x", True, False),
        ("VALUES (1)", True, False),
        ("TABLE account", True, False),
        (";; SELECT 1", True, False),
        ("-- x\rSELECT 1", True, False),
        ("UPDATE account SET x = 'select'", False, False),
        ("COMMIT", False, True),
        ("-- hi\nrollback", False, True),
        ("SET search_path = x", False, True),
        ("SELECTED", False, False),
        ("", False, True),
        ("-- nothing", False, True),
        ("; COMMIT", False, True),
        ("/* /* */ SELECT */ COMMIT", False, True),
        ("/* /* */ UPDATE */ COMMIT", False, True),
        ("-- x\rCOMMIT /*\nSELECT */", False, True),
        ("/*/* */*/ ROLLBACK", False, True),
        ("/* never ends SELECT", False, True),
        ("/**/\v\fEND", False, True),
        ("'a' SELECT", False, True),
        ('"select" 1', False, True),
        ("$a$ SELECT $a$", False, True),
        ("\ufeffSELECT 1", False, False),  # a part of the word, as the server has it
        ("selecté", False, False),
        ("select$1", False, False),
        ("\u212aSELECT", False, False),
    ],
)
def test_statements_are_told_apart_by_their_first_word(sql: str, read: bool, control: bool) -> None:
    assert (reads_only(sql), ends_transaction(sql)) == (read, control)


@pytest.mark.parametrize(
    ("sql", "changes"),
    [
        ("/**/ LISTEN x", True),
        ("UNLISTEN *", True),
        ("LOAD 'evil'", True),
        ("DEALLOCATE ALL", True),
        ("EXECUTE p(1)", True),
        ("SELECT set_config('app.tenant', 'a', true)", False),
        ("UPDATE t SET a = 1", False),
        ("NOTIFY x", False),
        ("LOCK TABLE t", False),
        ("", False),
    ],
)
def test_a_change_of_the_session_is_seen(sql: str, changes: bool) -> None:
    assert changes_session(sql) is changes


BLANKS = [" ", "\n", "\r", "\v", "\t", ";", "("]
QUOTES = ["'", "''", '"', "$$", "$a$", "E'\\'", "\\", "*", "/", "--", "*/", "/*"]
HEADS = ["SELECT 1", "COMMIT", "ROLLBACK", "END", "SELECT", "VALUES (1)", "ABORT", "RELEASE reads", "UPDATE"]


def mixture(chance: random.Random, depth: int = 0) -> str:
    """Key words among comments, which may hold comments and key words, and among quotes."""
    parts = []
    for _ in range(chance.randint(1, 4)):
        what = chance.random()
        if what < 0.35 and depth < 3:
            parts.append(f"/*{mixture(chance, depth + 1)}*/")
        elif what < 0.5 and depth < 3:
            parts.append(f"--{mixture(chance, depth + 1)}{chance.choice(BLANKS)}")
        else:
            parts.append(chance.choice(HEADS if what < 0.8 else BLANKS if what < 0.93 else QUOTES))
    return "".join(parts)


async def test_nothing_that_passes_for_a_read_ends_a_transaction_of_the_server(bank: Bank) -> None:
    """What the server makes of random mixtures of comments, quotes and key words, beside what is made of them here."""
    chance = random.Random(8)
    passed = understood = 0
    conn: asyncpg.Connection[asyncpg.Record]
    async with bank.saver.transaction() as tx:
        conn = tx
        for _ in range(4000):
            sql = mixture(chance)
            if not reads_only(sql):
                continue
            passed += 1
            await conn.execute("SAVEPOINT reads")
            try:
                await conn.fetch(sql)
                understood += 1
            except asyncpg.PostgresError:
                pass
            assert conn.is_in_transaction(), sql
            await conn.execute("ROLLBACK TO SAVEPOINT reads; RELEASE SAVEPOINT reads")
    assert passed > 200
    assert understood > 50


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT border FROM by_t",
        "SELECT id, balance - 1 FROM account a JOIN owner USING (id) WHERE a.x IN (1, 2) AND note ->> 'x' = $1",
        "SELECT count(*), sum(x::numeric(10, 2)) FROM t GROUP BY (a)",
        "WITH x AS (SELECT * FROM t) SELECT DISTINCT * FROM x LIMIT 3",
        "TABLE t",
        "SELECT 'ORDER BY', $$unnest(x)$$, E'\\' order by' FROM t -- ORDER BY 1\n/* unnest( /* */ ORDER BY */",
        'SELECT "order by", "a""b" FROM t',
        "SELECT a$order$by FROM t",
    ],
)
def test_a_plain_scan_promises_no_order(sql: str) -> None:
    assert scanned(sql) is not None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 ORDER BY 1",
        "SELECT 1 order\n by 1",
        "SELECT v FROM t ORDER/**/BY n",
        "SELECT v FROM t ORDER /* by /* place */ */ BY n",
        "SELECT v FROM t ORDER--\rBY n",
        "SELECT 1ORDER BY 1",
        "SELECT 'it''s' FROM t ORDER BY 'x'",
        "SELECT unnest(steps) FROM plan",
        "SELECT pg_catalog.unnest(steps) FROM plan",
        'SELECT "unnest"(steps) FROM plan',
        "SELECT unnest /* x */ (steps) FROM plan",
        'SELECT U&"unn\\0065st"(steps) FROM plan',
        "SELECT steps.count(1) FROM plan",
        "SELECT * FROM plan, LATERAL jsonb_array_elements(doc)",
        "SELECT * FROM unnest($1::int[]) WITH ORDINALITY",
        "SELECT * FROM ROWS FROM (generate_series(1, 2))",
        "SELECT * FROM (VALUES (1), (2)) v",
        "VALUES (1), (2)",
        "SELECT a FROM t UNION ALL SELECT b FROM t",
        "SELECT DISTINCT ON (a) a, b FROM t",
        "SELECT row_number() OVER (), a FROM t",
        "SELECT sum(a) OVER w FROM t WINDOW w AS (PARTITION BY b)",
        "WITH RECURSIVE x AS (SELECT 1) SELECT * FROM x",
        "SELECT * FROM json_table(doc, '$' COLUMNS (a int)) x",
        "SELECT mine(a) FROM t",
        "SELECT 'a\\' FROM t",  # where that literal ends is a setting's to say
        "SELECT 'unfinished FROM t",
        "EXPLAIN SELECT 1",
        "SHOW ALL",
        "",
    ],
)
def test_what_may_promise_an_order_is_no_plain_scan(sql: str) -> None:
    assert scanned(sql) is None


async def test_no_function_that_returns_rows_is_taken_for_one_that_returns_a_value(bank: Bank) -> None:
    """Every one that this server has: in the select list and in FROM."""
    names = {row["proname"] for row in await bank.do("SELECT DISTINCT proname::text FROM pg_proc WHERE proretset")}
    assert len(names) > 50
    assert names.isdisjoint(_BEFORE_PARENTHESIS)
    for name in names:
        assert scanned(f"SELECT {name}(x) FROM t") is None
        assert scanned(f"SELECT * FROM t, pg_catalog.{name}(x)") is None
