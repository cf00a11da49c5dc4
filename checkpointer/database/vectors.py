"""pgvector: the one extension that is used, and only by what searches vectors.

Everything else works on a stock PostgreSQL. So the extension is created where that is possible, and what needs it says
why it is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from superstep.runtime.faults import ExtensionMissing

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["SCHEMA_OF_VECTORS", "WHERE_VECTORS_ARE", "create_vectors", "vectors_missing"]

SCHEMA_OF_VECTORS = (
    "SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'"
)
"""The schema of the extension; no row without it."""

WHERE_VECTORS_ARE = f"""
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS available,
       ({SCHEMA_OF_VECTORS}) AS schema, to_regtype('vector') IS NOT NULL AS visible
"""  # noqa: S608 - a constant
"""What `vectors_missing` is told: one row."""

# The server has no such extension, or no library for it, or does not let this user create it. Or another session is
# creating it at this very moment.
_NOT_CREATED = (
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedFileError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.DuplicateObjectError,
    asyncpg.UniqueViolationError,
)


async def create_vectors(conn: asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]) -> bool:
    """Creates the extension where the server has it and the user may; in the transaction that `conn` is in, if any.

    Returns:
        Whether it is there now.
    """
    try:
        async with conn.transaction():
            await conn.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except _NOT_CREATED:
        return await conn.fetchval(SCHEMA_OF_VECTORS) is not None
    return True


def vectors_missing(found: asyncpg.Record) -> ExtensionMissing | None:
    """The error for what needs vectors; `None` if they are there. `found` is the row of `WHERE_VECTORS_ARE`."""
    if found["visible"]:
        return None
    if found["schema"] is not None:
        return ExtensionMissing(
            f"pgvector's extension is in schema {found['schema']!r}, which is not on the search path of this user, so "
            f"vectors are not found. Add it: ALTER ROLE … SET search_path, or `options` in the connection string."
        )
    if found["available"]:
        return ExtensionMissing(
            "This database has no pgvector, which vectors need, but its server has: let a superuser run "
            "`CREATE EXTENSION vector` in this database. All else works without."
        )
    return ExtensionMissing(
        "The database server has no pgvector, which vectors need. Install it "
        "(https://github.com/pgvector/pgvector#installation) and run `CREATE EXTENSION vector`, or unset DATABASE_URL "
        "to use the embedded PostgreSQL, which has it. All else works without."
    )
