"""Acquiring the embedded server: one for all, stopped with its last user, reported when it cannot start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import psycopg
import pytest

from superstep.checkpointer.embedded import EmbeddedServer, status, stop
from superstep.checkpointer.embedded.place import find
from superstep.runtime.faults import DatabaseUnavailable
from tests.checkpointer.embedded.processes import (
    ask,
    execute,
    is_gone,
    postmaster,
    url_of,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path


async def test_both_drivers_connect_and_the_settings_are_ours(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        connection = await asyncpg.connect(server.url)
        try:
            assert await connection.fetchval("SELECT current_database()") == "superstep"
            rows = await connection.fetch("SELECT name, setting FROM pg_settings")
        finally:
            await connection.close()
        settings = {row["name"]: row["setting"] for row in rows}
        assert int(settings["server_version_num"]) >= 180000
        assert settings["fsync"] == settings["synchronous_commit"] == settings["full_page_writes"] == "on"
        assert settings["jit"] == "off"
        assert settings["max_connections"] == "200"
        assert settings["listen_addresses"] == ""
        assert settings["server_encoding"] == "UTF8"
        locale = "SELECT datlocprovider::text || ' ' || datlocale FROM pg_database WHERE datname = current_database()"
        assert ask(server.url, locale) == "b C.UTF-8"
        assert ask(server.url, "SELECT current_user::text") == "superstep"
        assert ask(server.url, "SELECT '[3,4]'::vector <-> '[0,0]'") == 5
        assert status(root).url == server.url


def test_a_url_wins_over_variables_of_libpq(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    monkeypatch.setenv("PGDATABASE", "other")
    with EmbeddedServer.acquire(root) as server:
        assert ask(server.url, "SELECT current_database()") == "superstep"


def test_ten_processes_starting_on_an_empty_root_share_one_server(
    empty_root: Path, spawn: Callable[[], subprocess.Popen[str]]
) -> None:
    users = [spawn() for _ in range(10)]
    urls = {url_of(user) for user in users}
    assert len(urls) == 1
    (url,) = urls
    assert ask(url, "SELECT 1") == 1
    place = find(empty_root)
    assert place is not None
    assert place.log.read_text().count("ready to accept connections") == 1
    assert not list(place.home.glob("init-*"))


def test_commands_in_a_row_use_one_server(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        pid = postmaster(root)
    with EmbeddedServer.acquire(root):
        assert postmaster(root) == pid


def test_stop_ends_it_at_once_and_acquire_starts_it_again(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        assert stop(root)
        assert is_gone(root)
        assert not stop(root)
        with pytest.raises(psycopg.OperationalError):
            ask(server.url, "SELECT 1")
        with EmbeddedServer.acquire(root):
            assert ask(server.url, "SELECT 1") == 1


def test_looking_creates_nothing(empty_root: Path) -> None:
    assert not status(empty_root).running
    assert not stop(empty_root)
    assert list(empty_root.iterdir()) == []


def test_a_server_that_cannot_start_is_reported_with_its_log(root: Path) -> None:
    with EmbeddedServer.acquire(root):
        place = find(root)
        assert place is not None
    stop(root)
    (place.data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(
        DatabaseUnavailable, match=r"(?s)did not start.*initialized by PostgreSQL version 9.6.*DATABASE_URL"
    ):
        EmbeddedServer.acquire(root)
    assert is_gone(root)


def test_a_dropped_database_is_reported_by_its_sqlstate(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        postgres = server.url.replace("/superstep?", "/postgres?")
        execute(postgres, "DROP DATABASE superstep WITH (FORCE)")
        with pytest.raises(DatabaseUnavailable, match="3D000"):
            EmbeddedServer.acquire(root)
