"""docs/settings.md: every setting with its variable, flag and default; its commands and examples work."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from superstep.runtime.loading.project import read_project
from superstep.runtime.settings.file import FIELDS
from superstep.runtime.settings.settings import (
    DatabaseSettings,
    RunSettings,
    TelemetrySettings,
    WorkerSettings,
    load_settings,
    variable,
)
from tests.docs.pages import blocks, commands, page, perform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.pages import Shell

PAGE = page("settings.md")
CLASSES: dict[str, Any] = {
    "database": DatabaseSettings,
    "run": RunSettings,
    "worker": WorkerSettings,
    "telemetry": TelemetrySettings,
}
ROWS = [
    (section, *(cell.strip("` ") if at != 2 else cell.strip() for at, cell in enumerate(line.split("|")[1:5], start=1)))
    for section, body in re.findall(r"^## `\[(\w+)\]`\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    for line in body.splitlines()
    if line.startswith("| `")
]


def test_every_setting_is_there_and_no_other() -> None:
    assert {(section, key) for section, key, *_ in ROWS} == {(s, key) for s, keys in FIELDS.items() for key in keys}


@pytest.mark.parametrize(("section", "key", "variables", "flag", "default"), ROWS)
def test_a_setting_has_that_variable_flag_and_default(
    section: str, key: str, variables: str, flag: str, default: str
) -> None:
    assert re.findall(r"`(\w+)`", variables) == [variable(key), *(["DATABASE_URL"] if key == "url" else [])]
    assert flag == {"url": "--db", "schema": "--schema", "trace": "--trace"}.get(key, "")
    (field,) = [each for each in fields(CLASSES[section]) if each.name == key]
    written = None if default == "none" else tomllib.loads(f"x = {default}")["x"]
    assert field.default == written


def test_the_example_is_accepted(tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "toml")
    (tmp_path / "runtime.toml").write_text(text)
    found = load_settings(folder=tmp_path, env={})
    assert (found.database.pool_max, found.run.on_stale_answer) == (20, "ask")


def test_every_key_of_langgraph_json_does_what_is_said(tmp_path: Path) -> None:
    keys = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE.split("## `langgraph.json`")[1], re.MULTILINE)
    assert keys == ["graphs", "dependencies", "env", "checkpointer", "store"]
    (tmp_path / "langgraph.json").write_text(
        '{"graphs": {"a": "./a.py:g"}, "dependencies": ["."], "env": ".env", "checkpointer": {"path": "x"}, '
        '"store": {"path": "x"}}'
    )
    found = read_project(tmp_path)
    assert set(found.graphs) == {"a"}
    assert found.dependencies == (tmp_path / ".",)
    (of_env,) = found.warnings(imports=True, runs=False)
    assert '"env"' in of_env
    (of_run,) = set(found.warnings(imports=True, runs=True)) - {of_env}
    assert '"checkpointer"' in of_run
    assert found.refused


def test_the_commands(embedded: Shell) -> None:
    shown = perform(commands(PAGE), embedded)
    assert shown["runtime db start"].startswith("postgresql://")
    assert "pgvector" in shown["runtime db check"]
    assert shown["runtime db stop"] == "Stopped.\n"
