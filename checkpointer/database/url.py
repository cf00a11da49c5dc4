"""Connection strings, as libpq understands them: every parameter is honoured, or refused by its name. Pure.

The grammar is that of https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS, read a little
more kindly: in the password `@`, `?`, `#`, quotes, blanks and a `%` that begins no escape stand for themselves, since
that is how passwords get pasted. A slash must be written as %2F.

What is no parameter of libpq goes to the server as a setting of the session (`search_path`, `statement_timeout`); one
that it does not know is the server's to refuse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Address", "describe", "masked", "parameters", "parse"]

_QUERY = re.compile(r"\?(?=[A-Za-z_][\w.]*=)")  # a question mark before anything else belongs to the password
_NO_HOST = re.compile(r"[\s?#&=\"'\\]")
_SCHEME = re.compile(r"postgres(?:ql)?://", re.IGNORECASE)
_TO_DRIVER = frozenset(
    {"sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"}
    | {"ssl_min_protocol_version", "ssl_max_protocol_version", "passfile"}
    | {"target_session_attrs", "krbsrvname", "gsslib"}
)
_OF_SOCKETS = frozenset(
    {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
)
# Parameters of libpq that the driver cannot honour, with the values that ask for nothing else than it does.
_HARMLESS: Mapping[str, frozenset[str]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "client_encoding": frozenset({"auto", "utf8", "utf-8", "unicode"}),
    "gssdelegation": frozenset({"0"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "hostaddr": frozenset(),
    "load_balance_hosts": frozenset({"disable"}),
    "max_protocol_version": frozenset({"3.0", "latest"}),
    "min_protocol_version": frozenset({"3.0"}),
    "oauth_client_id": frozenset(),
    "oauth_client_secret": frozenset(),
    "oauth_issuer": frozenset(),
    "oauth_scope": frozenset(),
    "replication": frozenset({"0", "false", "off", "no"}),
    "require_auth": frozenset(),
    "requirepeer": frozenset(),
    "requiressl": frozenset({"0"}),
    "scram_client_key": frozenset(),
    "scram_server_key": frozenset(),
    "servicefile": frozenset(),
    "sslcertmode": frozenset({"allow"}),
    "sslcompression": frozenset({"0"}),
    "sslcrldir": frozenset(),
    "sslkeylogfile": frozenset(),
    "sslsni": frozenset({"1"}),
}
_INSTEAD = {
    "channel_binding": "Remove it; sslmode=verify-full, with sslrootcert=FILE or sslrootcert=system, protects against "
    "a server in between as well.",
    "connect_timeout": "It must be a number of seconds above 0: no wait here is for ever.",
    "hostaddr": "Write the address as the host.",
    "pgbouncer": "It must be true or false.",
    "require_auth": "Restrict it in the server's pg_hba.conf.",
    "servicefile": "Set the variable PGSERVICEFILE.",
    "sslmode": "With sslrootcert=system it must be verify-full.",
}
_SECRET = re.compile(r"(?<=[?&])((?:ssl)?password|scram_\w+_key|oauth_client_secret)=[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """A connection string in its parts. What may be secret is not shown by `repr`.

    Attributes:
        hosts: names, addresses or socket folders, each with its port if it has one. Empty for the driver's defaults.
        user: `None` for the driver's default, as the next two.
        password: as it is, nothing encoded.
        database: its name.
        to_driver: parameters that the driver takes by libpq's names.
        settings: of the session.
        sockets: `keepalives` and the like, in libpq's units.
        connect_timeout: seconds for each host.
        pooled: what `pgbouncer=true` or `false` says about a proxy in front of the server.
        system_certificates: the server's certificate must be signed by an authority that this machine trusts.
    """

    hosts: tuple[tuple[str, int | None], ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    to_driver: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    sockets: Mapping[str, int] = field(default_factory=dict)
    connect_timeout: float | None = None
    pooled: bool | None = None
    system_certificates: bool = False

    @property
    def dsn(self) -> str:
        """For the driver: what it takes in no other form."""
        given = "&".join(f"{name}={quote(value, safe='')}" for name, value in self.to_driver.items())
        return f"postgresql://?{given}" if given else "postgresql://"


def parameters(url: str) -> dict[str, str]:
    """All that a connection string says, by libpq's names.

    Raises:
        ValueError: malformed. Its message quotes nothing.
    """
    login, hosts, path, query = _parts(url)
    user, _, password = (login or "").partition(":")
    names, ports = _host_list(hosts)
    said = {"user": user, "password": password, "host": names, "port": ports, "dbname": path}
    found = {name: unquote(value) for name, value in said.items() if value.strip(",")}
    return found | _query(query)


def parse(url: str, service: Mapping[str, str] | None = None) -> Address:
    """Take a connection string apart.

    Args:
        url: the text.
        service: what a file says of the `service` that it names; the URL goes first.

    Raises:
        DatabaseUnavailable: a parameter cannot be honoured. Named without its value.
        ValueError: malformed.
    """
    said = {**(service or {}), **parameters(url)}
    said.pop("service", None)
    for name, harmless in _HARMLESS.items():
        if name in said and said.pop(name).lower() not in harmless:
            raise _refused(name)
    hosts = _hosts(said.pop("host", ""), said.pop("port", ""))
    user, password = said.pop("user", None), said.pop("password", None)
    database = said.pop("dbname", None)
    to_driver = {name: said.pop(name) for name in sorted(_TO_DRIVER & set(said))}
    system = to_driver.get("sslrootcert") == "system"
    if system:
        del to_driver["sslrootcert"]
        if to_driver.setdefault("sslmode", "verify-full") != "verify-full":
            raise _refused("sslmode")
    application = said.pop("fallback_application_name", None)
    if application:
        said.setdefault("application_name", application)
    return Address(
        hosts=hosts,
        user=user,
        password=password,
        database=database,
        to_driver=to_driver,
        sockets={name: int(said.pop(name)) for name in sorted(_OF_SOCKETS & set(said))},
        connect_timeout=_seconds(said.pop("connect_timeout", None)),
        pooled=_flag(said.pop("pgbouncer", None)),
        settings=said,
        system_certificates=system,
    )


def describe(url: str) -> str:
    """Name the database of a connection string, without its password or anything else that may be secret."""
    try:
        said = parameters(url)
        hosts = _hosts(said.get("host", ""), said.get("port", ""))
    except ValueError:
        return "the database"
    if "service" in said and "host" not in said:
        return f"the database of service {said['service']!r}"
    where = ",".join(f"{host}:{port}" if port else host for host, port in hosts) or "the default host"
    user = said.get("user", "the default user")
    return f"database {said.get('dbname', user)!r} on {where} as {user!r}"


def masked(url: str) -> str:
    """A connection string with `***` for every secret in it; all of it, if it cannot be told what is secret."""
    try:
        parameters(url)
        login, hosts, path, query = _parts(url)
    except ValueError:
        return "***"
    user, colon, _ = (login or "").partition(":")
    before = "" if login is None else f"{user}{':***' if colon else ''}@"
    path, query = f"/{path}" if path or "/" in url.partition("://")[2] else "", f"?{query}" if query else ""
    return f"{url[: url.index('://')]}://{before}{hosts}{path}{_SECRET.sub(_masked, query)}"


def _masked(found: re.Match[str]) -> str:
    return f"{found[1]}=***"


def _parts(url: str) -> tuple[str | None, str, str, str]:
    """Login (`None` if there is none), hosts, path and query of a connection string, as they are written."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise ValueError("no URL of PostgreSQL")
    authority, slash, rest = url[scheme.end() :].partition("/")
    if mark := _QUERY.search(authority):
        authority, rest = authority[: mark.start()], f"{authority[mark.start() :]}{slash}{rest}"
    path, _, query = rest.partition("?")
    if "@" in path:
        raise ValueError("a slash in the password, or an @ in the name of the database")
    login, at, hosts = authority.rpartition("@")
    if _NO_HOST.search(hosts):
        raise ValueError("a host with a character that none has")
    return login if at else None, hosts, path, query


def _host_list(text: str) -> tuple[str, str]:
    """Of `a:1,[::1]:2,c`: the hosts, and the ports, as libpq lists them."""
    hosts, ports = [], []
    for each in text.split(","):
        if each.startswith("["):
            host, bracket, port = each[1:].partition("]")
            if not bracket or (port and not port.startswith(":")):
                raise ValueError("an IPv6 address without its brackets")
            port = port[1:]
        else:
            host, _, port = each.partition(":")
        hosts.append(host)
        ports.append(port)
    return ",".join(hosts), ",".join(ports)


def _hosts(names: str, ports: str) -> tuple[tuple[str, int | None], ...]:
    hosts, given = names.split(","), ports.split(",")
    if len(given) == 1:
        given *= len(hosts)
    if len(given) != len(hosts):
        raise ValueError("as many ports as hosts, or one")
    if not names and not ports:
        return ()
    found = tuple((host or "localhost", int(port) if port else None) for host, port in zip(hosts, given, strict=True))
    if any(port is not None and not 0 < port < 65536 for _, port in found):
        raise ValueError("no such port")
    return found


def _query(text: str) -> dict[str, str]:
    found = {}
    for each in text.split("&") if text else ():
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise ValueError("a parameter without a value")
        if value:
            name = unquote(name)
            found["dbname" if name == "database" else name] = unquote(value)
    return found


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise _refused("connect_timeout")
    return seconds


def _flag(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.lower() not in ("true", "false"):
        raise _refused("pgbouncer")
    return text.lower() == "true"


def _refused(name: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"the database URL asks for {name} as it cannot be had here. "
        f"{_INSTEAD.get(name, 'Remove it, or give it the value that it has without being named.')}"
    )
