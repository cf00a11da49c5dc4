"""A server as a distribution sells it: PostgreSQL, and no pgvector."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from superstep.checkpointer.embedded import EmbeddedServer, bin_dir, server, stop
from tests.support.databases import fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import Admin


@contextmanager
def server_without_vectors() -> Iterator[EmbeddedServer]:
    """The embedded server, from a copy of its programs in which nothing of pgvector is left."""
    root = Path(tempfile.mkdtemp(prefix="superstep-stock-"))
    root.chmod(0o755)

    def without_vector(_folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name.startswith("vector")}

    install = bin_dir().parent
    package = root / install.parent.name / install.name  # programs find their libraries by the relative path
    shutil.copytree(install, package, ignore=without_vector)
    for libraries in install.parents[1].glob(f"{install.parent.name}.libs"):
        shutil.copytree(libraries, root / libraries.name)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "bin_dir", lambda *_: package / "bin")
            running = EmbeddedServer.acquire(root)
        with running:
            yield running
    finally:
        stop(root)
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def stock_admin() -> Iterator[Admin]:
    """A connection to a server without pgvector."""
    with server_without_vectors() as running, psycopg.connect(running.admin_url, autocommit=True) as admin:
        yield admin


@pytest.fixture
def stock_url(stock_admin: Admin) -> Iterator[str]:
    """A fresh, empty database on a server without pgvector."""
    parameters = stock_admin.info.get_parameters()
    url = f"postgresql://postgres@/superstep?host={parameters['host']}&port={stock_admin.info.port}"
    with fresh_database(stock_admin, url, "template0") as fresh:
        yield fresh
