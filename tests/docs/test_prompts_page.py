"""docs/prompts.md: its two forms are one prompt, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

from superstep.prompts import read_prompts
from superstep.prompts.files.drafts import _KEYS
from superstep.prompts.model.cases import RULES
from superstep.prompts.model.variables import TYPES
from superstep.runtime.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def first_cells(heading: str) -> set[str]:
    """The code words in the first column of the table with this heading."""
    table = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:] if row.startswith("|")]
    return {word for row in rows for word in re.findall(r"`(\w+)`", row)}


def test_both_forms_are_the_same_version(tmp_path: Path) -> None:
    for folder, name, language in (("a", "verify.toml", "toml"), ("b", "verify.md", "markdown")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(block(language))
    (written,), (marked,) = (read_prompts([tmp_path / folder]) for folder in "ab")
    assert written.name == marked.name == "verify"
    assert written.content.digest == marked.content.digest
    assert (written.description, written.cases) == (marked.description, marked.cases)


def test_every_key_rule_and_type_is_there_and_no_other() -> None:
    assert first_cells("key") == set(_KEYS)
    assert first_cells("rule") == set(RULES)
    (types,) = re.findall(r"^Types are (.*?)\. `type\?`", PAGE, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"`(.*?)`", types)) == set(TYPES)


def test_every_command_is_one(capsys: object) -> None:
    for command in sorted(set(re.findall(r"`runtime prompts (\w+)", PAGE))):
        assert main(["prompts", command, "--help"]) == 0
