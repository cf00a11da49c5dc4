"""docs/workers.md: its commands work, its example submits, its settings are taken."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import asyncpg

from superstep import TransactionalSaver
from superstep.checkpointer import Order
from superstep.runtime.cli.run.submit import submit
from superstep.runtime.settings.settings import load_settings
from tests.docs.pages import blocks, commands, page, perform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.pages import Shell

PAGE = page("workers.md")


def test_the_commands_work_in_their_order(shell: Shell) -> None:
    lines = commands(PAGE)
    shown = perform(lines, shell)
    assert len(lines) == 11
    assert shown[lines[0]] == "pay\n"
    assert "graphs.approvals" in shown["runtime runs"]
    assert "No worker has graphs.approvals" in shown["runtime runs"]


async def test_the_example_submits_with_the_callers_commit(database_url: str) -> None:
    (code,) = blocks(PAGE, "python")
    names: dict[str, Any] = {}
    exec(code, names)
    conn = await asyncpg.connect(database_url)
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        await saver.setup()
        await conn.execute("CREATE TABLE orders (id text PRIMARY KEY)")
        assert await names["order"](saver, conn) == "O-1"
        assert [run.graph for run in await saver.fleet.runs()] == ["shop.flow"]
    await conn.close()


def test_every_argument_and_option_is_named() -> None:
    table = PAGE.partition("## Submitting")[2].partition("## How")[0]
    options = {option for each in submit.params for option in each.opts if option.startswith("--")}
    assert set(re.findall(r"`(--\w+)`", table)) == options - {"--json", "--db", "--schema", "--debug"}
    assert set(Order.__dataclass_fields__) - {"graph", "request"} <= set(re.findall(r"`(\w+)`", table))


def test_the_settings_are_taken(tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "toml")
    (tmp_path / "runtime.toml").write_text(text)
    assert load_settings(folder=tmp_path, env={}).worker.concurrency == 20
