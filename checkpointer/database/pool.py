"""Opening the connection pool, and saying in plain words why that is not possible.

Every way of not getting a usable database ends in `DatabaseUnavailable`. Which one it was is decided on exception
classes and SQLSTATEs (https://www.postgresql.org/docs/current/errcodes-appendix.html), never on message text.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from superstep.checkpointer.database.vectors import SCHEMA_OF_VECTORS
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncpg.pool import PoolConnectionProxy

    AnyConnection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

__all__ = ["OLDEST_SERVER", "check_server", "describe", "open_pool", "register_codecs", "unavailable"]

OLDEST_SERVER = 14
_CONNECT_SECONDS = 10.0

_BROKEN_OFF = (
    "what listens there broke off, or does not speak as a PostgreSQL server should. Check host, port and sslmode."
)
_WHAT_TO_DO = {
    "28P01": "the password was not accepted. Check the password of that user",
    "28000": "the server does not let that user in from here. Check the user name and the server's pg_hba.conf",
    "3D000": "there is no such database. Create it, or correct the name",
    "42501": "the user has no right to do this. Grant it, or use another user",
    "53300": "all its connections are taken. Lower pool_max, or raise the server's max_connections",
    "57P03": "the server is starting up or shutting down. Try again in a moment",
    "57P01": "the server is being shut down. Start it again",
}


async def open_pool(url: str, *, min_size: int, max_size: int) -> asyncpg.Pool[asyncpg.Record]:
    """Opens a pool and checks, on its first connection, that the database can carry a Superstep schema.

    Connections are given back as they are, without asyncpg's reset query (a round trip per release): what borrows one
    must not leave session settings, locks or listeners behind. An open transaction is rolled back.

    pgvector's types are read and written as `pgvector` objects on connections made after the extension was created;
    after creating it, call `await pool.expire_connections()`. JSON stays `str`, as asyncpg has it.

    Raises:
        DatabaseUnavailable: the URL is malformed, the server is not reachable, refuses us, or is too old. The message
            has no password.
    """
    pool = asyncpg.create_pool(
        url, min_size=min_size, max_size=max_size, timeout=_CONNECT_SECONDS, init=register_codecs, reset=_reset
    )
    with unavailable(url):
        await pool
        try:
            async with pool.acquire() as connection:
                await check_server(connection)
        except BaseException:
            pool.terminate()
            raise
    return pool


async def check_server(conn: AnyConnection) -> None:
    """Checks the version with a single query.

    Raises:
        DatabaseUnavailable: the server is older than PostgreSQL 14.
    """
    row = await conn.fetchrow(
        """
        SELECT current_setting('server_version') AS version,
               current_setting('server_version_num')::int / 10000 AS major
        """
    )
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    if row["major"] < OLDEST_SERVER:
        raise DatabaseUnavailable(
            f"the database server is PostgreSQL {row['version']}; {OLDEST_SERVER} or newer is needed. Upgrade it, or "
            "unset DATABASE_URL to use the embedded one."
        )


async def register_codecs(conn: AnyConnection) -> None:
    """Makes pgvector's types of this connection Python objects, if the extension is there, in whatever schema."""
    schema = await conn.fetchval(SCHEMA_OF_VECTORS)
    if schema is not None:
        from pgvector.asyncpg import register_vector

        await register_vector(cast("asyncpg.Connection[asyncpg.Record]", conn), schema=schema)


@contextmanager
def unavailable(url: str) -> Iterator[None]:
    """Turns what goes wrong while connecting to `url` into `DatabaseUnavailable`."""
    try:
        yield
    except asyncpg.PostgresError as error:
        code = error.sqlstate or "XX000"
        if isinstance(error, asyncpg.PostgresConnectionError):  # class 08, raised by the driver itself
            raise DatabaseUnavailable(f"no connection to {describe(url)}: {_BROKEN_OFF}") from error
        reason = _WHAT_TO_DO.get(code, f"the server answered: {error.args[0] if error.args else code}")
        raise DatabaseUnavailable(f"no connection to {describe(url)}: {reason} (SQLSTATE {code}).") from error
    except (asyncpg.ClientConfigurationError, ValueError):
        # `from None`: asyncpg quotes parts of the URL, and the part may be a password.
        raise DatabaseUnavailable(
            "the database URL is malformed, or names a certificate that cannot be read. It should look like "
            "postgresql://user:password@host:5432/database, with special characters in the parts percent-encoded."
        ) from None
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise DatabaseUnavailable(f"no connection to {describe(url)}: {_network_reason(error)}") from error


def describe(url: str) -> str:
    """Names the database of a connection string, without its password or anything else that may be secret."""
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        host = unquote(parts.hostname or "") or query.get("host", ["the default host"])[0]
        port = f":{parts.port}" if parts.port else ""
        user = unquote(parts.username or "") or query.get("user", ["the default user"])[0]
        database = unquote(parts.path.lstrip("/")) or query.get("database", query.get("dbname", [user]))[0]
    except ValueError:
        return "the database"
    if "@" in database:  # a password with an unencoded slash: the rest of it is here
        return "the database"
    return f"database {database!r} on {host}{port} as {user!r}"


def _network_reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there. Start the server, or correct host and port."
    if isinstance(error, FileNotFoundError):
        return "there is no such socket or file. Start the server, or correct the path."
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT_SECONDS:.0f} s. Check host, port and firewall."
    if isinstance(error, ssl.SSLError):
        return f"the encrypted connection failed ({error.reason}). Check sslmode and certificates."
    if isinstance(error, PermissionError):
        return "the operating system denies access to the socket or file."
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return f"{error.strerror or type(error).__name__}. Check host and port."
    return _BROKEN_OFF


async def _reset(conn: AnyConnection) -> None:
    # asyncpg rolls back before it calls this; should a version not do so, no transaction may reach the next borrower.
    if conn.is_in_transaction():
        await conn.execute("ROLLBACK")
