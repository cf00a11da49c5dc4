"""Bringing a database to the current tables."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import asyncpg
import pytest

from superstep.checkpointer.database.migrate import migrate, migration_files, pending
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Connection = asyncpg.Connection[asyncpg.Record]

FIRST = "CREATE TABLE {schema}.item (id int PRIMARY KEY, place vector(2), extra jsonb DEFAULT '{}');"
SECOND = "ALTER TABLE {schema}.item ADD COLUMN name text; CREATE INDEX ON {schema}.item (name);"
ODD = 'we"ird Schema {1}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_item.sql").write_text(FIRST)
    (tmp_path / "0002_name.sql").write_text(SECOND)
    return tmp_path


async def queries(conn: Connection, action: Callable[[], object]) -> list[str]:
    seen: list[str] = []
    with conn.query_logger(lambda record: seen.append(record.query)):
        await action()  # type: ignore[misc]
        await asyncio.sleep(0)  # asyncpg calls loggers on the loop's next turn
    return seen


async def test_the_real_migrations_apply_once(conn: Connection) -> None:
    names = [path.stem for path in migration_files()]
    assert names
    assert names == sorted(names)
    assert await pending(conn) == names
    assert await migrate(conn) == names
    assert await pending(conn) == []
    assert await migrate(conn) == []
    recorded = await conn.fetch("SELECT version, name, applied_at FROM runtime.migration ORDER BY version")
    assert [row["name"] for row in recorded] == names
    assert [row["version"] for row in recorded] == list(range(1, len(names) + 1))
    assert all(row["applied_at"] is not None for row in recorded)


async def test_a_database_of_the_tests_is_up_to_date(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await pending(connection) == []
    finally:
        await connection.close()


async def test_nothing_to_do_is_one_query(conn: Connection, folder: Path) -> None:
    await migrate(conn, folder=folder)
    assert len(await queries(conn, lambda: migrate(conn, folder=folder))) == 1


async def test_an_upgrade_applies_only_what_is_new_in_order(conn: Connection, folder: Path) -> None:
    second = (folder / "0002_name.sql").rename(folder / "later")
    assert await migrate(conn, folder=folder) == ["0001_item"]
    second.rename(folder / "0002_name.sql")
    (folder / "0003_more.sql").write_text("CREATE TABLE {schema}.more (item int REFERENCES {schema}.item, n text);")
    assert await pending(conn, folder=folder) == ["0002_name", "0003_more"]
    assert await migrate(conn, folder=folder) == ["0002_name", "0003_more"]


async def test_any_name_of_a_schema(conn: Connection, folder: Path) -> None:
    await migrate(conn, ODD, folder=folder)
    await migrate(conn, "other", folder=folder)
    rows = await conn.fetch("SELECT schemaname FROM pg_tables WHERE tablename = 'item'")
    assert {row["schemaname"] for row in rows} == {ODD, "other"}
    assert await conn.fetchval("SELECT to_regnamespace('runtime')") is None


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
async def test_ten_at_once_on_an_empty_database(empty_database_url: str, folder: Path, isolation: str) -> None:
    settings = {"default_transaction_isolation": isolation}
    connections = [await asyncpg.connect(empty_database_url, server_settings=settings) for _ in range(10)]
    try:
        results = await asyncio.gather(*(migrate(each, folder=folder) for each in connections))
    finally:
        for each in connections:
            await each.close()
    assert sorted(results) == [*([[]] * 9), ["0001_item", "0002_name"]]


async def test_a_failing_migration_leaves_nothing(conn: Connection, folder: Path) -> None:
    (folder / "0003_bad.sql").write_text("CREATE TABLE {schema}.late (); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(conn, folder=folder)
    assert await conn.fetchval("SELECT to_regnamespace('runtime')") is None
    (folder / "0003_bad.sql").unlink()
    assert await migrate(conn, folder=folder) == ["0001_item", "0002_name"]


async def test_a_database_of_a_newer_release_is_left_alone(conn: Connection, folder: Path) -> None:
    await migrate(conn, folder=folder)
    (folder / "0002_name.sql").unlink()
    for action in (migrate, pending):
        with pytest.raises(DatabaseUnavailable, match=r"newer release \(migration 2; this one knows 1\).*Upgrade"):
            await action(conn, folder=folder)


async def test_the_extension_may_be_in_a_schema_off_the_search_path(conn: Connection, folder: Path) -> None:
    await conn.execute('CREATE SCHEMA "Ext"; CREATE EXTENSION vector SCHEMA "Ext"')
    before = await conn.fetchval("SHOW search_path")
    assert await migrate(conn, folder=folder) == ["0001_item", "0002_name"]
    assert await conn.fetchval("SHOW search_path") == before


async def test_what_is_needed_of_a_user_without_rights(conn: Connection, empty_database_url: str) -> None:
    if "//postgres@" not in empty_database_url:
        pytest.skip("needs a server that lets a new role in without a password")
    role = f"plain_{uuid.uuid4().hex}"
    await conn.execute(f"CREATE ROLE {role} LOGIN")
    try:
        plain = await asyncpg.connect(empty_database_url.replace("//postgres@", f"//{role}@"))
        try:
            with pytest.raises(DatabaseUnavailable, match=r"permission denied.*own schema"):
                await migrate(plain)
            assert await conn.fetchval("SELECT to_regnamespace('runtime')") is None
            # A superuser gives a schema away; the rights to create schemas and extensions are not needed.
            await conn.execute(f"CREATE SCHEMA runtime AUTHORIZATION {role}")
            assert await migrate(plain)
            assert await conn.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'vector'") == 0
        finally:
            await plain.close()
    finally:
        await conn.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_file_that_is_not_named_like_a_migration_is_a_mistake(conn: Connection, folder: Path) -> None:
    (folder / "fix.sql").write_text("")
    with pytest.raises(ValueError, match=r"fix\.sql"):
        await migrate(conn, folder=folder)


async def test_two_files_with_one_number_are_a_mistake(conn: Connection, folder: Path) -> None:
    (folder / "0002_other.sql").write_text("")
    with pytest.raises(ValueError, match="same number"):
        await migrate(conn, folder=folder)
