"""docs/architecture.md and docs/index.md: every file, test and page they name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
INDEX = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
INVARIANTS = re.findall(r"^\| (.+?) \| `(\S+?)` \| `(\S+?)::(\w+)` \|$", PAGE, re.MULTILINE)


def test_the_table_is_read() -> None:
    rows = PAGE.partition("## Invariants")[2].count("\n| ")
    assert len(INVARIANTS) == rows - 1  # the head of the table
    assert len(INVARIANTS) > 15


@pytest.mark.parametrize(("what", "file", "module", "test"), INVARIANTS)
def test_an_invariant_names_its_file_and_its_test(what: str, file: str, module: str, test: str) -> None:
    assert (ROOT / file).is_file()
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
                if isinstance(target, ast.Name)}  # fmt: skip
    assert test in functions | assigned


def test_every_other_path_exists() -> None:
    named = {path.rstrip("/") for path in re.findall(r"`((?:[a-z_]+/)+[a-z_.]*)`", PAGE)}
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_walks_are_short() -> None:
    walks = re.findall(r"(?:^\d+\. .*\n)+", PAGE, re.MULTILINE)
    read, write, chat = (len(walk.strip().splitlines()) for walk in walks)
    assert read <= 7
    assert write <= 7
    assert chat <= 10


def test_the_index_leads_to_every_page() -> None:
    linked = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\((\S+?)\)", INDEX)}
    assert all(path.is_file() for path in linked)
    assert set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "index.md"} <= linked


def test_every_room_is_described() -> None:
    for part in ("checkpointer", "runtime"):
        for room in sorted(path.name for path in (ROOT / part).iterdir() if (path / "__init__.py").exists()):
            assert f"`{part}/{room}`" in PAGE, room
