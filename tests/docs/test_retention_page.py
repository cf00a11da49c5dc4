"""docs/retention.md: its rules are accepted, its defaults are those of a rule, its commands run."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING

from superstep.checkpointer import Rule
from superstep.runtime.settings.retention import retention
from superstep.runtime.settings.settings import load_settings
from tests.docs.pages import blocks, commands, page, perform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.pages import Shell

PAGE = page("retention.md")
DAY = timedelta(days=1)


def test_every_key_of_a_rule_is_there_with_its_default() -> None:
    said = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", PAGE, re.MULTILINE))
    words = {None: '"forever"', True: "true", False: "false"}
    assert said == {each.name: words[each.default] for each in fields(Rule)}  # type: ignore[index]


def test_the_example_is_accepted(tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "toml")
    (tmp_path / "runtime.toml").write_text(text)
    found = load_settings(folder=tmp_path, env={})
    rules = retention(found.retention, found.place)
    assert rules.rule == Rule(90 * DAY)
    assert rules.graphs == {"underwriting": Rule(365 * DAY, keep_latest=True)}


def test_the_commands_run(shell: Shell) -> None:
    shown = perform(commands(PAGE), shell, {})
    assert "Would free about" in str(shown)
