"""Opening a pool: what a usable one does, and the ways of not getting one."""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import asyncpg
import psycopg
import pytest
from pgvector import HalfVector, Vector
from psycopg import sql

from superstep.checkpointer.database import pool as connect
from superstep.checkpointer.database import server as server_module
from superstep.checkpointer.database.pool import check_server, open_pool, register_codecs
from superstep.runtime.faults import DatabaseUnavailable
from tests.support.databases import with_database
from tests.support.stock import server_without_vectors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

SECRET = "s3cr3t"
WEIRD = ["it's", 'a"b', "pa ss", "100%", "p@ss@w", "a/b", "x#y?z&=", "p\u00e4ss\u00df+", "%41"]


@asynccontextmanager
async def opened(url: str, max_size: int = 1) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    pool, _ = await open_pool(url, min_size=0, max_size=max_size)
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def listening(answer: Callable[[asyncio.StreamReader], Awaitable[bytes]]) -> AsyncIterator[int]:
    """A port where something listens that is not PostgreSQL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await answer(reader))
            await writer.drain()
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as running:
        yield running.sockets[0].getsockname()[1]


async def fault(url: str) -> str:
    """The message of the error that opening `url` raises; neither it nor its traceback may show the password."""
    with pytest.raises(DatabaseUnavailable) as caught:
        await open_pool(url, min_size=1, max_size=1)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.fixture(scope="module")
def strict_url() -> Iterator[str]:
    """A server of our own, with roles that it does not let in."""
    with server_without_vectors() as running, psycopg.connect(running.admin_url, autocommit=True) as admin:
        hba = running.home / "data" / "pg_hba.conf"
        rules = "local all with_password scram-sha-256\nlocal all kept_out reject\n"
        hba.write_text(rules + hba.read_text())
        admin.execute("CREATE ROLE with_password LOGIN PASSWORD 'other'")
        admin.execute("CREATE ROLE kept_out LOGIN")
        admin.execute("CREATE ROLE no_rights LOGIN")
        admin.execute("REVOKE CONNECT ON DATABASE superstep FROM PUBLIC")
        admin.execute("SELECT pg_reload_conf()")
        yield running.admin_url


class TestPool:
    """What connections of a pool are like."""

    async def test_vectors_are_objects_and_json_is_text(self, database_url: str) -> None:
        async with opened(database_url) as pool:
            row = await pool.fetchrow("SELECT $1::vector AS v, $2::halfvec AS h, '{\"a\": 1}'::jsonb AS j", [1, 2], [3])
        assert row is not None
        assert row["v"] == Vector([1, 2])
        assert row["h"] == HalfVector([3])
        assert row["j"] == '{"a": 1}'

    async def test_the_extension_may_be_in_any_schema(self, empty_database_url: str) -> None:
        async with opened(empty_database_url) as pool:
            await pool.execute('CREATE SCHEMA "Odd one"')
            await pool.execute('CREATE EXTENSION vector SCHEMA "Odd one"')
            await pool.expire_connections()
            assert await pool.fetchval('SELECT $1::"Odd one".vector', [1, 2]) == Vector([1, 2])

    async def test_a_database_without_the_extension_is_fine(self, empty_database_url: str) -> None:
        async with opened(empty_database_url) as pool, pool.acquire() as connection:
            await register_codecs(connection)
            assert await connection.fetchval("SELECT 1") == 1

    async def test_giving_back_runs_no_reset_query(self, database_url: str) -> None:
        async with opened(database_url) as pool:
            async with pool.acquire() as connection:
                await connection.execute("SET work_mem = '5MB'")
            async with pool.acquire() as connection:
                assert await connection.fetchval("SHOW work_mem") == "5MB"

    async def test_an_open_transaction_does_not_reach_the_next_borrower(self, database_url: str) -> None:
        async with opened(database_url) as pool:
            async with pool.acquire() as connection:
                await connection.execute("BEGIN; CREATE TABLE abandoned ()")
            async with pool.acquire() as connection:
                assert not connection.is_in_transaction()
                assert await connection.fetchval("SELECT to_regclass('abandoned')") is None

    async def test_our_reset_rolls_back_by_itself(self, database_url: str) -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute("BEGIN")
            await connect._reset(connection)
            assert not connection.is_in_transaction()
            await connect._reset(connection)
        finally:
            await connection.close()

    async def test_the_check_is_one_query(self, database_url: str) -> None:
        connection = await asyncpg.connect(database_url)
        try:
            seen: list[object] = []
            with connection.query_logger(seen.append):
                await check_server(connection)
                await asyncio.sleep(0)  # asyncpg calls loggers on the loop's next turn
            assert len(seen) == 1
        finally:
            await connection.close()

    async def test_contradicting_sizes_are_not_blamed_on_the_database(self, database_url: str) -> None:
        with pytest.raises(ValueError, match="size"):
            await open_pool(database_url, min_size=5, max_size=1)


class TestUnreachable:
    """Nobody there, or somebody else."""

    async def test_a_closed_port(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            text = await fault(f"postgresql://u:{SECRET}@127.0.0.1:{port}/d")
        assert f"database 'd' on 127.0.0.1:{port} as 'u'" in text
        assert "nothing listens there" in text

    async def test_a_socket_that_is_not_there(self, tmp_path: Path) -> None:
        assert "no such socket" in await fault(f"postgresql://u:{SECRET}@/d?host={tmp_path}")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
    async def test_a_socket_that_is_out_of_reach(self, tmp_path: Path) -> None:
        tmp_path.chmod(0)  # noqa: ASYNC240
        assert "denies access" in await fault(f"postgresql://u:{SECRET}@/d?host={tmp_path}")

    async def test_a_certificate_that_is_not_there(self) -> None:
        url = f"postgresql://u:{SECRET}@h/d?sslmode=verify-full&sslrootcert=/no/such/file"
        assert "no such socket or file" in await fault(url)

    async def test_a_host_that_does_not_exist(self) -> None:
        assert "Check host and port" in await fault(f"postgresql://u:{SECRET}@nowhere.invalid/d")

    async def test_something_that_hangs_up(self) -> None:
        async def hang_up(_: asyncio.StreamReader) -> bytes:
            return b""

        async with listening(hang_up) as port:
            assert "broke off" in await fault(f"postgresql://u:{SECRET}@127.0.0.1:{port}/d")

    async def test_something_that_speaks_another_protocol(self) -> None:
        async def http(reader: asyncio.StreamReader) -> bytes:
            await reader.read(8)
            return b"HTTP/1.1 400 Bad Request\r\n\r\n"

        async with listening(http) as port:
            assert "broke off" in await fault(f"postgresql://u:{SECRET}@127.0.0.1:{port}/d?sslmode=disable")

    async def test_a_server_that_refuses_encryption(self) -> None:
        async def refuse(reader: asyncio.StreamReader) -> bytes:
            await reader.read(8)
            return b"N"

        async with listening(refuse) as port:
            assert "sslmode" in await fault(f"postgresql://u:{SECRET}@127.0.0.1:{port}/d?sslmode=require")

    async def test_silence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "CONNECT_SECONDS", 0.2)

        async def wait(reader: asyncio.StreamReader) -> bytes:
            while await reader.read(100):
                pass
            return b""

        async with listening(wait) as port:
            assert "no answer in time" in await fault(f"postgresql://u:{SECRET}@127.0.0.1:{port}/d")

    @pytest.mark.parametrize(
        "url",
        [
            SECRET,
            f"mysql://u:{SECRET}@h/d",
            f"host=h user=u password={SECRET}",
            f"postgresql://u:{SECRET}@h:port/d",
            f"postgresql://u:{SECRET}/+@h/d",  # a slash that should have been encoded makes it look like a port
            f"postgresql://u:{SECRET}@[::1/d",
            f"postgresql://u:{SECRET}@h/d?sslmode=perhaps",
        ],
    )
    async def test_a_malformed_url(self, url: str) -> None:
        assert "URL is malformed" in await fault(url)


class TestRefused:
    """A server that does not want us."""

    async def test_an_unknown_database(self, server_url: str) -> None:
        text = await fault(with_database(server_url, "no_such_database"))
        assert "database 'no_such_database'" in text
        assert "3D000" in text
        assert "Create it" in text

    async def test_a_wrong_password(self, strict_url: str) -> None:
        text = await fault(strict_url.replace("//postgres@", f"//with_password:{SECRET}@"))
        assert "as 'with_password'" in text
        assert "28P01" in text

    @pytest.mark.parametrize(
        "password", ["it's", 'a"b', "pa ss", "100%", "p@ss@w", "a/b", "x#y?z&=", "p\u00e4ss\u00df+", "%41"]
    )
    @pytest.mark.parametrize("form", ["encoded", "as it is", "parameter"])
    async def test_a_right_password_of_whatever_characters(self, strict_url: str, password: str, form: str) -> None:
        with psycopg.connect(strict_url, autocommit=True) as admin:
            admin.execute(sql.SQL("ALTER ROLE with_password PASSWORD {}").format(sql.Literal(password)))
        written = quote(password, safe="")
        if form == "parameter":
            url = strict_url.replace("//postgres@", "//with_password@") + f"&password={written}"
        elif form == "encoded" or "/" in password or password == "%41":
            url = strict_url.replace("//postgres@", f"//with_password:{written}@")
        else:
            url = strict_url.replace("//postgres@", f"//with_password:{password}@")
        text = await fault(url)
        assert "42501" in text  # let in, and then not allowed to connect to this database
        assert password not in text

    async def test_a_missing_password(self, strict_url: str) -> None:
        await fault(strict_url.replace("//postgres@", "//with_password@"))

    async def test_a_user_kept_out(self, strict_url: str) -> None:
        assert "pg_hba.conf" in await fault(strict_url.replace("//postgres@", "//kept_out@"))

    async def test_an_unknown_user(self, strict_url: str) -> None:
        assert "28000" in await fault(strict_url.replace("//postgres@", "//stranger@"))

    async def test_a_user_without_the_right_to_connect(self, strict_url: str) -> None:
        assert "42501" in await fault(strict_url.replace("//postgres@", "//no_rights@"))


class TestUnfit:
    """A server that cannot carry the schema."""

    async def test_too_old(self) -> None:
        class Old:
            async def fetchrow(self, _: str) -> dict[str, object]:
                return {"version": "13.4", "major": 13}

        with pytest.raises(DatabaseUnavailable, match=r"PostgreSQL 13\.4; 14 or newer"):
            await check_server(Old())  # type: ignore[arg-type]
