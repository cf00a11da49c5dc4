"""A database server as a connection string names it, and opening connections to it."""

from __future__ import annotations

import configparser
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from superstep.checkpointer.database.tls import system_certificates
from superstep.checkpointer.database.url import parameters, parse
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from superstep.checkpointer.database.url import Address

    Connection = asyncpg.Connection[asyncpg.Record]

__all__ = ["CONNECT_SECONDS", "Server", "server_of"]

CONNECT_SECONDS = 10.0

# A connection that was dropped on its way is noticed within half a minute, if TCP can notice it: without these it takes
# a quarter of an hour for a request, and for ever while an answer is waited for.
_SOCKET_DEFAULTS: Mapping[str, int] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_SOCKET_OPTIONS = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}
_UNFIT = (OSError, asyncpg.TargetServerAttributeNotMatched, asyncpg.CannotConnectNowError)


@dataclass(frozen=True, slots=True)
class Server:
    """Where the database is.

    Attributes:
        address: the connection string in its parts.
        pooled: a proxy stands in between that gives each transaction another session (pgbouncer's transaction mode), so
            nothing may be prepared by name: a statement's text goes along each time.
    """

    address: Address
    pooled: bool = False

    def behind_proxy(self, pooled: bool) -> Server:
        """The same, knowing whether a proxy stands in between."""
        return replace(self, pooled=pooled)

    async def connect(self, *_: Any, **more: Any) -> Connection:
        """A new connection, to the first host that takes one and is what `target_session_attrs` asks for.

        Args:
            *_: what a pool passes on, which has nothing to say here.
            **more: for the driver.
        """
        hosts = self.address.hosts or (None,)
        attributes = self.address.to_driver.get("target_session_attrs")
        # The driver would give all hosts together the time that one has, and a silent one could use it up.
        passes = ("standby", "any") if attributes == "prefer-standby" else (attributes,)
        last: Exception | None = None
        for wanted in passes:
            for host in hosts:
                try:
                    return await self._connect(host, wanted, more)
                except _UNFIT as e:
                    last = e
        assert last is not None  # noqa: S101 - there is a host to fail
        raise last

    async def _connect(
        self, host: tuple[str, int | None] | None, attributes: str | None, more: Mapping[str, Any]
    ) -> Connection:
        address = self.address
        given: dict[str, Any] = {
            "dsn": address.dsn,
            "user": address.user,
            "password": address.password,
            "database": address.database,
            "server_settings": dict(address.settings) or None,
            "timeout": address.connect_timeout or CONNECT_SECONDS,
            **more,
        }
        if host is not None:
            given["host"], given["port"] = host
        if attributes is not None:
            given["target_session_attrs"] = attributes
        if self.pooled:
            given["statement_cache_size"] = 0
        if address.system_certificates:
            given["ssl"] = system_certificates(address.to_driver)
        conn: Connection = await asyncpg.connect(**given)
        _keep_alive(conn, {**_SOCKET_DEFAULTS, **address.sockets})
        return conn


def server_of(url: str) -> Server:
    """The server that a connection string names, with what its `service` says.

    Raises:
        DatabaseUnavailable: the service is not defined, or a parameter cannot be honoured.
        ValueError: malformed.
    """
    name = parameters(url).get("service")
    address = parse(url, _service(name) if name else None)
    return Server(address, pooled=bool(address.pooled))


def _service(name: str) -> Mapping[str, str]:
    """What the service file says; see https://www.postgresql.org/docs/current/libpq-pgservice.html."""
    file = Path(os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf")
    known = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    try:
        known.read_string(file.read_text(encoding="utf-8"))
        found = dict(known[name])
    except (OSError, KeyError, configparser.Error) as e:
        raise DatabaseUnavailable(
            f"the database URL names the service {name!r}, which {file} does not define ({type(e).__name__}). Define "
            f"it there, or name another file in PGSERVICEFILE."
        ) from None
    return found


def _keep_alive(conn: Connection, wanted: Mapping[str, int]) -> None:
    """Have TCP look after the connection. libpq's names and units; 0 is the system's default."""
    transport = getattr(conn, "_transport", None)  # the driver has no other way to its socket
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, wanted["keepalives"])
    for name, option in _SOCKET_OPTIONS.items():
        if wanted[name] > 0 and hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), wanted[name])
