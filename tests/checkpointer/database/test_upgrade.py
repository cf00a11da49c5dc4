"""A database that an earlier release made, and its workers, under the tables of this one."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer.database.migrate import migrate, migration_files
from tests.support.statements import all_statements, statements_of_first_release

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

FIRST = migration_files()[0]
OLD_STATEMENTS = Path(__file__).with_name("queries_before_0002.sql")
PARTS = {"tuple_columns", "tuple_joins", "own_root", "own_nested", "own_outside"}  # of statements, not statements
STATS = {
    "nodes": ["decide"], "attempts": 1, "repairs": 0, "drifts": 0, "escalated": False, "commit": "direct",
    "reads": 0, "writes": 0, "llm_reused": 0, "ms": 1.5,
}  # fmt: skip


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The migrations of the first release."""
    shutil.copy(FIRST, tmp_path)
    return tmp_path


def old(schema: str) -> dict[str, str]:
    return statements_of_first_release(OLD_STATEMENTS.read_text(), schema)


async def fill(conn: Connection, schema: str) -> None:
    """A thread of two steps of which the second asked models twice, written by the first release."""
    sql = old(schema)
    token = (await conn.fetchrow(sql["claim"], "t", "graph"))["token"]
    head = None
    for id_, source, stats in (("1", "input", None), ("2", "loop", STATS), ("3", "loop", STATS)):
        none: list[list[Any]] = [[] for _ in range(10)]
        about = (json.dumps({"source": source, "step": 1}), json.dumps(stats) if stats else None)
        args = ("t", "", id_, head, "msgpack", b"", [], [], *about, *none, token, head)
        assert await conn.fetchval(sql["put_root"], *args) == 1
        head = id_
    for nth, (model, tokens) in enumerate([("gpt", 3), ("offline", 4), (None, 5)]):
        key = ("t", "", "2", "task", 1, b"request", nth)
        await conn.fetchval(sql["memo_put"], *key, model, tokens, 10 * tokens, "msgpack", b"answer", token)
    await conn.execute(f"UPDATE {schema}.llm_call SET created_at = $1", datetime(2026, 1, 1, tzinfo=UTC))


async def test_what_was_paid_before_is_still_known(conn: Connection, first: Path) -> None:
    await migrate(conn, folder=first)
    await fill(conn, "runtime")
    counted = ("llm_paid", "input_tokens", "output_tokens")
    before = await conn.fetch(old("runtime")["steps"], "t", None)
    assert [tuple(row[key] for key in counted) for row in before] == [(0, 0, 0), (3, 12, 120)]
    assert "0002_model_calls" in await migrate(conn)
    sql = all_statements("runtime")
    after = await conn.fetch(sql["steps"], "t", None, None)
    assert [tuple(row[key] for key in counted) for row in after] == [(0, 0, 0), (3, 12, 120)]
    for since in (None, "2", "3"):
        was, now = [await conn.fetchrow(each["usage"], "t", since) for each in (old("runtime"), sql)]
        assert {key: now[key] for key in counted} == {key: was[key] for key in counted}
    assert [row["usd"] for row in after] == [0, None]
    assert sorted((call["model"] or "", call["outcome"]) for call in json.loads(after[1]["calls"])) == [
        ("", "answered"), ("gpt", "answered"), ("offline", "answered"),
    ]  # fmt: skip
    rows = await conn.fetch("SELECT offline, created_at FROM runtime.model_call ORDER BY model NULLS LAST")
    assert [row["offline"] for row in rows] == [False, True, False]
    assert {row["created_at"] for row in rows} == {datetime(2026, 1, 1, tzinfo=UTC)}
    assert await conn.fetchval("SELECT count(*) FROM runtime.llm_call WHERE answer = 'answer'") == 3


async def test_an_upgraded_database_is_like_a_fresh_one(conn: Connection, first: Path) -> None:
    await migrate(conn, "upgraded", folder=first)
    await fill(conn, "upgraded")
    await migrate(conn, "upgraded")
    await migrate(conn, "fresh")
    upgraded, fresh = await catalog(conn, "upgraded"), await catalog(conn, "fresh")
    assert upgraded == fresh
    assert len(fresh) > 50


async def catalog(conn: Connection, schema: str) -> list[str]:
    """Everything a schema has: tables, columns, constraints, indexes, sequences, functions, triggers."""
    rows = await conn.fetch(
        """
        SELECT concat_ws(' ', 'relation', c.relname, c.relkind, c.reloptions, c.relpersistence)
        FROM pg_class c WHERE c.relnamespace = $1::text::regnamespace
        UNION ALL
        SELECT concat_ws(' ', 'column', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
                         a.attnotnull, a.attidentity, a.attgenerated, a.attstorage, a.attcompression,
                         a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid))
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r'
        UNION ALL
        SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE connamespace = $1::text::regnamespace
        UNION ALL
        SELECT concat_ws(' ', 'index', indisvalid, pg_get_indexdef(indexrelid))
        FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE c.relnamespace = $1::text::regnamespace
        UNION ALL
        SELECT concat_ws(' ', 'function', p.oid::regprocedure, p.prosrc) FROM pg_proc p
        WHERE p.pronamespace = $1::text::regnamespace
        UNION ALL
        SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid)) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
        WHERE c.relnamespace = $1::text::regnamespace AND NOT tgisinternal
        """,
        schema,
    )
    return sorted(re.sub(rf"\b{schema}\b", "SCHEMA", row[0]) for row in rows)


def test_a_migration_that_databases_have_is_never_changed() -> None:
    """Only then does "upgraded" above mean upgraded."""
    digest = hashlib.sha256(FIRST.read_bytes()).hexdigest()
    assert digest == "9af27e44edfea28a3170c1764dd4092f91ae3ea595f533f4e491ac2d66bccdfb"


async def test_workers_of_the_release_before_can_go_on(conn: Connection) -> None:
    """They hold prepared statements and know the old columns; every statement of theirs must still be understood."""
    await migrate(conn)
    for name, sql in old("runtime").items():
        if name not in PARTS:
            assert await conn.prepare(sql), name
    await fill(conn, "runtime")
    assert (await conn.fetchrow(old("runtime")["usage"], "t", None))["llm_paid"] == 3
