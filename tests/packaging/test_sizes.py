"""Modules are one room, and functions are read at once: the house's limits, with a reason beside what exceeds one."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PARTS = ("checkpointer", "graphs", "prompts", "providers", "runtime")
MODULE, FUNCTION = 400, 40  # lines; a function's without its docstring
LISTS = {"runtime/faults.py"}  # classes one after the other, which must stand at one place
REASON = "# long: "


def modules() -> list[Path]:
    return sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))


def long_functions(text: str) -> Iterator[tuple[str, int]]:
    """Functions over the limit that give no reason on the line that defines them."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            last = node.end_lineno or node.lineno
            first = node.body[0]
            docstring = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            size = last - node.lineno + 1 - docstring
            if size > FUNCTION and REASON not in lines[node.lineno - 1]:
                yield node.name, size


def test_no_module_is_longer_than_the_limit() -> None:
    found = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert {name: size for name, size in found.items() if size > MODULE and name not in LISTS} == {}


def test_a_function_over_the_limit_says_why() -> None:
    found = {str(path.relative_to(ROOT)): list(long_functions(path.read_text())) for path in modules()}
    assert {name: functions for name, functions in found.items() if functions} == {}


@pytest.mark.parametrize(("reason", "found"), [("", [("long_one", 42)]), ("  # long: a table", [])])
def test_the_limit_can_be_exceeded(reason: str, found: list[tuple[str, int]]) -> None:
    body = "\n".join(["    pass"] * 41)
    assert list(long_functions(f'def long_one():{reason}\n    """Doc."""\n{body}\n')) == found
