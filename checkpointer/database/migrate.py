"""Bringing a database to the tables that this release needs.

Migrations are files `NNNN_name.sql`, applied in the order of their numbers, each once, all in one transaction. A room
that has tables of its own keeps theirs in a folder `migrations` beside its statements; the numbers run through all of
them. In their text, `{schema}` stands for the quoted name of the schema. Names without a schema are looked up in
`pg_catalog` and, where it is, in the schema of the `vector` extension only. No migration needs that extension: it is
created before them where that is possible, and the first one is applied without its statement that does so too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from superstep.checkpointer.database.errors import MISSING_TABLES
from superstep.checkpointer.database.vectors import SCHEMA_OF_VECTORS, create_vectors
from superstep.runtime.faults import DatabaseUnavailable
from superstep.runtime.sqlfile import quote_identifier

if TYPE_CHECKING:
    from superstep.checkpointer.database.pool import AnyConnection

__all__ = ["migrate", "migration_files", "pending"]

_PACKAGE = Path(__file__).parents[2]
_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_EXTENSION = "CREATE EXTENSION IF NOT EXISTS vector;"
_LOCK = 0x5355504552  # any number that other users of advisory locks are unlikely to take


@dataclass(frozen=True, slots=True)
class _Migration:
    version: int
    name: str
    path: Path


async def migrate(conn: AnyConnection, schema: str = "runtime", *, folder: Path | None = None) -> list[str]:
    """Creates or upgrades the tables in `schema`. Idempotent; any number of processes may call it at once.

    One query when there is nothing to do. Otherwise one transaction: all pending migrations are applied or none.

    Args:
        conn: an idle connection, not in a transaction.
        schema: the schema's name, unquoted; created if missing. So is the extension `vector`, where the server has it
            and the user may.
        folder: where the migrations are; by default those of the whole package.

    Returns:
        The names of the migrations that this call applied, in order.

    Raises:
        DatabaseUnavailable: the user lacks a right, or the database was migrated by a newer release. Nothing was
            changed.
    """
    if not await pending(conn, schema, folder=folder):
        return []
    quoted = quote_identifier(schema)
    try:
        # READ COMMITTED, whatever the session's default: a snapshot taken before the wait for the lock would not see
        # what its last holder did.
        async with conn.transaction(isolation="read_committed"):
            await _lock(conn)
            await _prepare(conn, schema)
            todo = _missing(await conn.fetch(f"SELECT version FROM {quoted}.migration"), folder, schema)  # noqa: S608
            for each in todo:
                text = each.path.read_text(encoding="utf-8").replace(_EXTENSION, "")
                await conn.execute(text.replace("{schema}", quoted))
                await conn.execute(
                    f"INSERT INTO {quoted}.migration (version, name) VALUES ($1, $2)",  # noqa: S608 - quoted
                    each.version,
                    each.name,
                )
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseUnavailable(
            f"this database user may not create what Superstep needs: {error.args[0]}. As a superuser, let the user "
            f"own schema {quoted}, or create schemas in this database."
        ) from error
    return [each.name for each in todo]


async def pending(conn: AnyConnection, schema: str = "runtime", *, folder: Path | None = None) -> list[str]:
    """Names the migrations that `migrate` would apply, in order. One query, no lock.

    The query fails inside the database if nothing was ever applied, which ends a transaction that `conn` is in.

    Raises:
        DatabaseUnavailable: the database was migrated by a newer release.
    """
    try:
        applied = await conn.fetch(f"SELECT version FROM {quote_identifier(schema)}.migration")  # noqa: S608 - quoted
    except MISSING_TABLES:
        applied = []
    return [each.name for each in _missing(applied, folder, schema)]


async def _lock(conn: AnyConnection) -> None:
    """Waits for the end of other migrations of this database. The one place that needs an advisory lock."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def _prepare(conn: AnyConnection, schema: str) -> None:
    """Creates the schema, the extension if that can be, and the list of migrations. Asks for no right without need."""
    quoted = quote_identifier(schema)
    # IF NOT EXISTS would check the right to create before it looks.
    if not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema):
        await conn.execute(f"CREATE SCHEMA {quoted}")
    await create_vectors(conn)
    await conn.execute(
        f"CREATE TABLE IF NOT EXISTS {quoted}.migration "
        "(version int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    where = await conn.fetchval(SCHEMA_OF_VECTORS)
    path = ", ".join(["pg_catalog", *([quote_identifier(where)] if where else [])])
    await conn.execute("SELECT set_config('search_path', $1, true)", path)


def _missing(applied: list[asyncpg.Record], folder: Path | None, schema: str) -> list[_Migration]:
    known = _load(folder)
    versions = {row["version"] for row in applied}
    if unknown := versions - {each.version for each in known}:
        raise DatabaseUnavailable(
            f"schema {schema!r} was migrated by a newer release (migration {max(unknown)}; this one knows "
            f"{max((each.version for each in known), default=0)}). Upgrade superstep-runtime."
        )
    return [each for each in known if each.version not in versions]


def migration_files(folder: Path | None = None) -> list[Path]:
    """All migrations, in order; of a folder, or of every room of the package."""
    found = folder.glob("*.sql") if folder is not None else _PACKAGE.glob("*/*/migrations/*.sql")
    return sorted(found, key=lambda path: path.name)


def _load(folder: Path | None) -> list[_Migration]:
    found = []
    for path in migration_files(folder):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path} is not named like 0001_name.sql")
        found.append(_Migration(int(match[1]), path.stem, path))
    if len({each.version for each in found}) != len(found):
        raise ValueError("two migrations have the same number")
    return found
