"""A database as 0.1.0 left it, brought to the tables of the current code."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest

from superstep.checkpointer.database.migrate import migrate, migration_files
from tests.support.commands import _own_folder, runtime
from tests.support.databases import run

if TYPE_CHECKING:
    from tests.support.commands import Runtime

__all__ = ["_own_folder", "runtime"]

HERE = Path(__file__).parent
MIGRATIONS = ("0001_core.sql", "0002_model_calls.sql", "0003_prompts.sql")


@pytest.fixture
def claims_flow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The user's module, under the name that stands in stored values."""
    monkeypatch.syspath_prepend(HERE)
    module = importlib.import_module("claims_flow")
    module.asked.clear()
    return module


@pytest.fixture
def old_url(empty_database_url: str, tmp_path: Path) -> str:
    """The tables of 0.1.0 (migrations never change), its rows, and then the migrations since."""
    for file in migration_files():
        if file.name in MIGRATIONS:
            shutil.copy(file, tmp_path)
    run(_migrate(empty_database_url, tmp_path))
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute((HERE / "database.sql").read_bytes())
    run(_migrate(empty_database_url, None))
    return empty_database_url


@pytest.fixture
def on_old(runtime: Runtime, old_url: str, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """`runtime … --db URL` in this process, on that database. No model and no credit bureau can be reached.

    The bundled offline model answers; who asks the bureau has to set `BUREAU_URL` to one.
    """
    monkeypatch.setenv("BUREAU_URL", "http://127.0.0.1:9")
    return lambda *arguments: runtime(*arguments, "--db", old_url)


async def _migrate(url: str, folder: Path | None) -> None:
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection, folder=folder)
    finally:
        await connection.close()
