"""Opening the connection pool, and saying in plain words why that is not possible.

Every way of not getting a usable database ends in `DatabaseUnavailable`. Which one it was is decided on exception
classes and SQLSTATEs (https://www.postgresql.org/docs/current/errcodes-appendix.html), never on message text.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, cast

import asyncpg

from superstep.checkpointer.database import tls
from superstep.checkpointer.database.server import CONNECT_SECONDS, Server, server_of
from superstep.checkpointer.database.url import describe
from superstep.checkpointer.database.vectors import SCHEMA_OF_VECTORS
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from asyncpg.pool import PoolConnectionProxy

    AnyConnection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

__all__ = ["OLDEST_SERVER", "check_server", "open_pool", "register_codecs", "unavailable"]

OLDEST_SERVER = 14

_BROKEN_OFF = (
    "what listens there broke off, or does not speak as a PostgreSQL server should. Check host, port and sslmode."
)
_PROXY_SETTINGS = (
    "what stands in front of the database server does not hand these settings of the database URL on: {names}. Remove "
    "them there, and give them to the role (ALTER ROLE ... SET ...); or connect to the server itself."
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


async def open_pool(url: str, *, min_size: int, max_size: int) -> tuple[asyncpg.Pool[asyncpg.Record], Server]:
    """Opens a pool, after a look at the server: it must be fit, and a proxy in front of it must be known.

    Connections are given back as they are, without asyncpg's reset query (a round trip per release): what borrows one
    must not leave session settings, locks or listeners behind (`session`). An open transaction is rolled back.

    pgvector's types are read and written as `pgvector` objects on connections made after the extension was created;
    after creating it, call `await pool.expire_connections()`. JSON stays `str`, as asyncpg has it.

    Returns:
        The pool, and what was found out about the server.

    Raises:
        DatabaseUnavailable: the URL is malformed or asks for what cannot be had, the server is not reachable, refuses
            us, or is too old. The message has no password.
    """
    with unavailable(url):
        server = server_of(url)
        server = server.behind_proxy(await _look(server))
    pool = asyncpg.create_pool(
        connect=server.connect, min_size=min_size, max_size=max_size, init=register_codecs, reset=_reset
    )
    with unavailable(url):
        try:
            await pool
        except BaseException:
            pool.terminate()
            raise
    return pool, server


async def _look(server: Server) -> bool:
    """Checks the server, on a connection of its own. Returns whether a proxy stands in front of it.

    Behind one that shares servers among clients, a connection's backend is another one than it was told at first. Until
    that is known nothing may be prepared by name.
    """
    conn = await server.connect(statement_cache_size=0)
    try:
        async with asyncio.timeout(CONNECT_SECONDS), conn.transaction():
            backend = await check_server(conn)
            pooled = server.address.pooled
            if pooled is None:
                pooled = backend != conn.get_server_pid()
            if pooled and server.address.settings:
                await _check_settings(conn, server.address.settings)
    finally:
        conn.terminate()
    return pooled


async def _check_settings(conn: AnyConnection, wanted: Mapping[str, str]) -> None:
    """Refuses session settings of the URL that a proxy has not handed on: it may be told to ignore them."""
    dropped = ["options"] if "-c" in wanted.get("options", "") or "--" in wanted.get("options", "") else []
    for name in sorted(set(wanted) - {"options", "application_name"}):
        now = await conn.fetchval("SELECT current_setting($1, true)", name)
        if now != await conn.fetchval("SELECT set_config($1, $2, true)", name, wanted[name]):
            dropped.append(name)
    if dropped:
        raise DatabaseUnavailable(_PROXY_SETTINGS.format(names=", ".join(dropped)))


async def check_server(conn: AnyConnection) -> int:
    """Checks the version with a single query.

    Returns:
        The process id of the backend that answered.

    Raises:
        DatabaseUnavailable: the server is older than PostgreSQL 14.
    """
    row = await conn.fetchrow(
        """
        SELECT current_setting('server_version') AS version,
               current_setting('server_version_num')::int / 10000 AS major,
               pg_backend_pid() AS backend
        """
    )
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    if row["major"] < OLDEST_SERVER:
        raise DatabaseUnavailable(
            f"the database server is PostgreSQL {row['version']}; {OLDEST_SERVER} or newer is needed. Upgrade it, or "
            "unset DATABASE_URL to use the embedded one."
        )
    return int(row["backend"])


async def register_codecs(conn: AnyConnection) -> None:
    """Makes pgvector's types of this connection Python objects, if the extension is there, in whatever schema."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            schema = await conn.fetchval(SCHEMA_OF_VECTORS)
            if schema is not None:
                from pgvector.asyncpg import register_vector

                await register_vector(cast("asyncpg.Connection[asyncpg.Record]", conn), schema=schema)
    except BaseException:
        conn.terminate()  # to close it in order could take as long
        raise


@contextmanager
def unavailable(url: str) -> Iterator[None]:
    """Turns what goes wrong while connecting to `url` into `DatabaseUnavailable`."""
    try:
        yield
    except asyncpg.PostgresError as error:
        code = error.sqlstate or "XX000"
        if isinstance(error, asyncpg.ProtocolViolationError) and (names := _session_settings(url)):
            raise DatabaseUnavailable(_PROXY_SETTINGS.format(names=names)) from error
        if isinstance(error, asyncpg.PostgresConnectionError):  # class 08, raised by the driver itself
            raise DatabaseUnavailable(f"no connection to {describe(url)}: {_BROKEN_OFF}") from error
        reason = _WHAT_TO_DO.get(code, f"the server answered: {error.args[0] if error.args else code}")
        raise DatabaseUnavailable(f"no connection to {describe(url)}: {reason} (SQLSTATE {code}).") from error
    except ssl.SSLError as error:  # before ValueError, which a refused certificate is as well
        reason = tls.reason(error, server_of(url).address.to_driver)
        raise DatabaseUnavailable(f"no connection to {describe(url)}: {reason}") from error
    except (asyncpg.ClientConfigurationError, ValueError):
        # `from None`: asyncpg quotes parts of the URL, and the part may be a password.
        raise DatabaseUnavailable(
            "the database URL is malformed, or names a certificate that cannot be read. It should look like "
            "postgresql://user:password@host:5432/database, with a slash in a part written as %2F."
        ) from None
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise DatabaseUnavailable(
            f"no connection to {describe(url)}: none of its hosts is what target_session_attrs asks for."
        ) from error
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise DatabaseUnavailable(f"no connection to {describe(url)}: {_network_reason(error)}") from error


def _session_settings(url: str) -> str:
    """Names the settings of the session that a URL has sent along."""
    return ", ".join(sorted(set(server_of(url).address.settings) - {"application_name"}))


def _network_reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there. Start the server, or correct host and port."
    if isinstance(error, FileNotFoundError):
        return "there is no such socket or file. Start the server, or correct the path."
    if isinstance(error, TimeoutError):
        return "no answer in time. Check host, port and firewall."
    if isinstance(error, PermissionError):
        return "the operating system denies access to the socket or file."
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return f"{error.strerror or type(error).__name__}. Check host and port."
    return _BROKEN_OFF


async def _reset(conn: AnyConnection) -> None:
    # asyncpg rolls back before it calls this; should a version not do so, no transaction may reach the next borrower.
    if conn.is_in_transaction():
        await conn.execute("ROLLBACK")
