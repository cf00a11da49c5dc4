"""What the upgrade notes say to write works."""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.packaging.conftest import PARTS, ROOT

NOTES = (
    (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("### Upgrading from 0.1.0\n")[2].partition("\n## ")[0]
)
ROWS = re.findall(r"^\| `([^`]+)`.* \| `([^`]+)` \|$", NOTES, re.MULTILINE)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_each_old_root_has_a_row() -> None:
    assert {old.removeprefix("python -m ").removeprefix("from ").split()[0].partition(".")[0] for old, _ in ROWS} == {
        *PARTS
    }


@pytest.mark.parametrize("statement", [new for _, new in ROWS if new.startswith("from ")])
def test_the_new_import_works(statement: str) -> None:
    exec(statement, {})


def test_the_new_command_is_there() -> None:
    (module,) = (new.removeprefix("python -m ") for _, new in ROWS if new.startswith("python "))
    assert importlib.util.find_spec(f"{module}.__main__") is not None


def test_the_readme_leads_to_the_notes() -> None:
    section = README.partition("## Upgrading from 0.1.0\n")[2].partition("\n## ")[0]
    assert "(CHANGELOG.md#upgrading-from-010)" in section
    (statement,) = re.findall(r"`(from superstep import [^`]+)`", section)
    exec(statement, {})
