"""Fixtures for every test: a real server, and a database of one's own per test.

`TEST_DATABASE_URL` or `DATABASE_URL` names the server to use (its user must be able to create databases and the
extension); without them the embedded PostgreSQL is started once for all workers and removed with its data at the end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from superstep.checkpointer.embedded import EmbeddedServer, stop
from tests.support.databases import ensure_template, fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import Admin

_ROOT = "SUPERSTEP_TEST_ROOT"  # set by the process that starts the workers, inherited by them
_ROOM = 8 << 30  # bytes


def _in_memory() -> str | None:
    """A folder in memory, if there is room: thousands of databases are made and dropped, each with a checkpoint."""
    folder = Path("/dev/shm")
    try:
        return str(folder) if shutil.disk_usage(folder).free > _ROOM else None
    except OSError:
        return None


def pytest_configure(config: pytest.Config) -> None:
    """Fixes the folder of the run's server before workers start."""
    if not hasattr(config, "workerinput"):
        root = Path(tempfile.mkdtemp(prefix="superstep-test-", dir=_in_memory()))
        root.chmod(0o755)  # run by root, the server is another user
        os.environ[_ROOT] = str(root)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes the run's server when all workers have ended."""
    if not hasattr(config, "workerinput"):
        root = Path(os.environ.pop(_ROOT))
        stop(root)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A database on the server under test that nobody writes to: for creating others, and for server-wide questions."""
    if given := os.environ.get("TEST_DATABASE_URL") or os.environ.get("DATABASE_URL"):
        yield given
    else:
        with EmbeddedServer.acquire(Path(os.environ[_ROOT])) as server:
            yield server.admin_url


@pytest.fixture(scope="session")
def admin(server_url: str) -> Iterator[Admin]:
    """A connection for creating and dropping databases."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template(admin: Admin, server_url: str) -> str:
    """The name of a migrated database to clone."""
    return ensure_template(admin, server_url)


@pytest.fixture
def database_url(admin: Admin, server_url: str, template: str) -> Iterator[str]:
    """A fresh database with the current tables in schema `runtime`."""
    with fresh_database(admin, server_url, template) as url:
        yield url


@pytest.fixture
def empty_database_url(admin: Admin, server_url: str) -> Iterator[str]:
    """A fresh database with nothing in it."""
    with fresh_database(admin, server_url, "template0") as url:
        yield url
