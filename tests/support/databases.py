"""Fresh databases for tests, cloned from a template that is migrated once."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psycopg
from psycopg import sql

from superstep.checkpointer.database.migrate import migrate, migration_files

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from superstep.checkpointer import TransactionalSaver

    Admin = psycopg.Connection[tuple[Any, ...]]


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine to its end from synchronous code, whatever event loop this thread may have."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, coroutine).result()


def ensure_template(admin: Admin, server_url: str) -> str:
    """Returns the name of a database with the tables of the current migrations, creating it if it is not there.

    The name has their digest, and the lock is the server's own, so that test runs of different versions, from any
    number of processes, can share a server.
    """
    digest = hashlib.sha256()
    for path in migration_files():
        digest.update(path.read_bytes())
    name = f"superstep_template_{digest.hexdigest()[:12]}"
    admin.execute("SELECT pg_advisory_lock(hashtext(%s))", [name])
    try:
        finished = "SELECT 1 FROM pg_database WHERE datname = %s AND datistemplate"
        if admin.execute(finished, [name]).fetchone() is None:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            run(_migrate(with_database(server_url, name)))
            admin.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name)))
    finally:
        admin.execute("SELECT pg_advisory_unlock(hashtext(%s))", [name])
    return name


@contextmanager
def fresh_database(admin: Admin, server_url: str, template: str) -> Iterator[str]:
    """The URL of a database of one's own, dropped at the end whoever is still connected."""
    name = sql.Identifier(f"superstep_test_{uuid.uuid4().hex[:16]}")
    # The default strategy, WAL_LOG since PostgreSQL 15, takes a third of the time of FILE_COPY for so small a template.
    admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template)))
    try:
        yield with_database(server_url, name.as_string().strip('"'))
    finally:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


async def _migrate(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()


async def tables(saver: TransactionalSaver) -> dict[str, list[str]]:
    """The saver's own tables with the names of their bytea columns."""
    async with saver.transaction() as tx:
        rows = await tx.fetch(
            "SELECT table_name, COALESCE(array_agg(column_name) FILTER (WHERE data_type = 'bytea'), '{}') AS binary "
            "FROM information_schema.columns WHERE table_schema = 'runtime' GROUP BY 1"
        )
    return {row["table_name"]: row["binary"] for row in rows}
