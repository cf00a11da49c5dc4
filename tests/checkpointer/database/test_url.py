"""Connection strings: every parameter of libpq is honoured or refused by its name, and no password is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.database.pool import open_pool
from superstep.checkpointer.database.server import server_of
from superstep.checkpointer.database.url import describe, masked, parse
from superstep.runtime.faults import DatabaseUnavailable
from superstep.runtime.masking import without_password
from tests.support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from pathlib import Path

PASSWORDS = ["it'sSECRET", 'a"SECRET', "pa ss SECRET", "p@SECRET@", "x#SECRET?", "100%SECRET", "p\u00e4SECRET+"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:1/d", "database 'd' on h:1 as 'u'"),
        ("postgresql://u%40x:p@h/d%20e", "database 'd e' on h as 'u@x'"),
        ("postgresql://u@/d?host=/tmp/s&password=p4ss", "database 'd' on /tmp/s as 'u'"),
        ("postgresql://h?user=u&dbname=d", "database 'd' on h as 'u'"),
        ("postgresql://u:12/p4ss@h/d", "the database"),
        ("postgresql://h1:1,h2:2/d", "database 'd' on h1:1,h2:2 as 'the default user'"),
        ("postgresql://", "database 'the default user' on the default host as 'the default user'"),
        ("postgresql:///d?service=s", "the database of service 's'"),
        ("host=h password=p4ss", "the database"),
    ],
)
def test_describing_a_database_shows_no_password(url: str, shown: str) -> None:
    assert describe(url) == shown


@pytest.mark.parametrize("password", PASSWORDS)
def test_passwords_are_taken_as_they_are_and_never_shown(password: str) -> None:
    for url in (f"postgresql://u:{password}@h:1/d?sslmode=require", f"postgresql://u@h:1/d?password={password}"):
        address = parse(url)
        assert (address.user, address.password, address.hosts, address.database) == ("u", password, (("h", 1),), "d")
        told = (repr(address), describe(url), masked(url), without_password(f"no way to {url}"), without_password(url))
        assert not [text for text in told if "SECRET" in text]
        assert parse(masked(url)).hosts == address.hosts


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://a:1,b,[::1]:3/d", (("a", 1), ("b", None), ("::1", 3))),
        ("postgresql:///d?host=a,b&port=5,6", (("a", 5), ("b", 6))),
        ("postgresql:///d?host=a,b&port=5", (("a", 5), ("b", 5))),
        ("postgresql://u@%2Ftmp%2Fs:7/d", (("/tmp/s", 7),)),
        ("postgresql://nobody/d?host=/tmp/s", (("/tmp/s", None),)),
        ("postgresql:///d", ()),
    ],
)
def test_hosts(url: str, hosts: tuple[tuple[str, int | None], ...]) -> None:
    assert parse(url).hosts == hosts


@pytest.mark.parametrize(
    "parameter",
    [
        "channel_binding=require", "hostaddr=127.0.0.1", "gssencmode=require", "require_auth=scram-sha-256", "sslsni=0",
        "requirepeer=postgres", "load_balance_hosts=random", "sslcertmode=require", "sslcompression=1", "replication=1",
        "client_encoding=latin1", "connect_timeout=0", "sslcrldir=/x", "oauth_issuer=x", "pgbouncer=maybe",
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(parameter: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=f"asks for {parameter.partition('=')[0]} "):
        parse(f"postgresql://u@h/d?{parameter}")


def test_a_system_certificate_needs_the_mode_that_uses_it() -> None:
    assert parse("postgresql://u@h/d?sslrootcert=system").system_certificates
    with pytest.raises(DatabaseUnavailable, match="asks for sslmode"):
        parse("postgresql://u@h/d?sslrootcert=system&sslmode=require")


@pytest.mark.parametrize(
    "parameter",
    ["channel_binding=prefer", "gssencmode=disable", "client_encoding=UTF8", "load_balance_hosts=disable", "sslsni=1"],
)
def test_what_asks_for_nothing_special_is_taken(parameter: str) -> None:
    assert parse(f"postgresql://u@h/d?{parameter}").settings == {}


async def test_parameters_reach_the_server(database_url: str) -> None:
    more = "&application_name=it%27s%20me&options=-c%20work_mem%3D7MB&connect_timeout=5&statement_timeout=9s"
    conn = await server_of(database_url + more).connect()
    shown = [await conn.fetchval(f"SHOW {name}") for name in ("application_name", "work_mem", "statement_timeout")]
    await conn.close()
    assert shown == ["it's me", "7MB", "9s"]


async def test_an_unknown_parameter_is_refused_by_name(database_url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="no_such_setting"):
        await open_pool(f"{database_url}&no_such_setting=1", min_size=0, max_size=1)


async def test_a_silent_host_does_not_use_up_the_time_of_the_next(database_url: str) -> None:
    async with TcpProxy(database_url).running() as silent, TcpProxy(database_url).running() as good:
        silent.fall_silent()
        ports = [url.rpartition("/")[0].rpartition(":")[2] for url in (silent.url, good.url)]
        path = good.url.rpartition("/")[2]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        conn = await server_of(f"postgresql://postgres@{hosts}/{path}?connect_timeout=1&sslmode=disable").connect()
        assert await conn.fetchval("SELECT 1") == 1
        await conn.close()
        with pytest.raises(DatabaseUnavailable, match="target_session_attrs"):
            await open_pool(f"{good.url}?target_session_attrs=standby", min_size=0, max_size=1)


async def test_services(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = parse(database_url)
    (host, port), *_ = address.hosts
    file = tmp_path / "services"
    file.write_text(f"[mine]\nhost={host}\nport={port}\nuser=postgres\ndbname=elsewhere\napplication_name=by 100%\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    conn = await server_of(f"postgresql:///{address.database}?service=mine").connect()
    assert await conn.fetchval("SHOW application_name") == "by 100%"
    assert await conn.fetchval("SELECT current_database()") == address.database
    await conn.close()
    with pytest.raises(DatabaseUnavailable, match="names the service 'other'"):
        server_of("postgresql:///d?service=other")
