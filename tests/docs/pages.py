"""Pages of documentation: their blocks, and their commands performed as a reader would."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.support.commands import Done, Runtime

    Shell = Callable[[Sequence[str]], Done]

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """What stands after a prompt."""
    return [line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]


def perform(lines: Sequence[str], shell: Shell, codes: Mapping[str, int] | None = None) -> dict[str, str]:
    """Run commands in their order; what each prints. `codes` are exit codes other than 0, by the command."""
    shown = {}
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "runtime"
        done = shell(words)
        assert done.code == (codes or {}).get(line, 0), (line, done.out, done.err)
        shown[line] = done.out
    return shown


@pytest.fixture
def embedded(tmp_path: Path, runtime: Runtime) -> Iterator[Shell]:
    """Runs a command in an empty folder, with the embedded server."""
    tmp_path.chmod(0o755)  # run by root, the server is another user
    yield lambda words: runtime(*words)
    runtime("db", "stop")


@pytest.fixture
def shell(runtime: Runtime, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs a command in an empty folder, on a database of its own."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    return lambda words: runtime(*words)
