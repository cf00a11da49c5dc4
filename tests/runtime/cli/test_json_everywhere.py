"""Every command has `--json`: an answer, or an error, as one JSON value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from superstep.runtime.cli import cli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Runtime

NOWHERE = "postgresql://someone:hunter2@127.0.0.1:1/d"


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """All commands with their words, groups left out."""
    found = list[tuple[tuple[str, ...], click.Command]]()
    context = click.Context(group)
    for name in {**dict.fromkeys(group.list_commands(context)), **group.commands}:
        command, words = group.get_command(context, name), (*path, name)
        assert command is not None
        found += commands(command, words) if isinstance(command, click.Group) else [(words, command)]
    return found


EVERY = dict(commands())


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_it_is_there_and_errors_are_one_value(runtime: Runtime, words: tuple[str, ...]) -> None:
    command = EVERY[words]
    assert any("--json" in option.opts for option in command.params)
    usage = runtime(*words, "--no-such-option", "--json")
    assert (usage.code, usage.json["error"]["type"]) == (2, "NoSuchOption")
    arguments = ["1" for each in command.params if isinstance(each, click.Argument) and each.required]
    done = runtime(*words, *arguments, "--json", "--db", NOWHERE)
    if words not in {("models",), ("db", "url")}:
        assert done.code != 0
        assert done.json["error"]["type"]
        assert done.json["error"]["message"]
    assert "hunter2" not in done.out + done.err


def test_answers_that_are_no_listings(on_db: Runtime, tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    for text in ("one", "two"):
        (tmp_path / "prompts" / "p.md").write_text(f"---\ndescription: d\n---\n{text}\n")
        assert on_db("prompts", "add").code == 0
    first = {"version": 1, "weight": None}
    moved = on_db("prompts", "promote", "p", "1", "--json").json
    assert moved == {"name": "p", "label": "production", "before": None, "after": first, "changed": True}
    assert on_db("prompts", "promote", "p", "2").code == 0
    assert on_db("prompts", "rollback", "p", "--json").json["after"] == first
    diff = on_db("prompts", "diff", "p", "1", "2", "--json").json
    assert (diff["from"], diff["to"]) == (1, 2)
    assert {"-one", "+two"} <= set(diff["lines"])
    assert on_db("db", "migrate", "--json").json["schema"] == "runtime"
    assert on_db("db", "url", "--json").json["url"].startswith("postgresql://")
