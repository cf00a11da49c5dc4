"""What is shown while sides run: on a terminal of 80 columns, on one that has only ASCII, and elsewhere."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from superstep.runtime.cli.demo.model import Model
from superstep.runtime.cli.demo.progress import Board, Watch
from superstep.runtime.cli.demo.scenario import Scenario
from superstep.runtime.cli.demo.views import titles

SCENARIO = Scenario(flows=60, accounts=6, thinking=0.3, ttl=2.0)


class Terminal:
    """A console as wide as a small terminal, and what was written to it."""

    def __init__(self, encoding: str, *, terminal: bool = True) -> None:
        self._file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        self.console = Console(file=self._file, width=80, force_terminal=terminal, color_system=None)

    @property
    def lines(self) -> list[str]:
        self._file.flush()
        raw: Any = self._file.buffer
        text: str = raw.getvalue().decode(self._file.encoding)
        return re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", "", text).splitlines()


def raced(watch: Watch) -> None:
    """Each flow plans and draws but the last, which is sent back."""
    watch.began(Model(0.0))
    *most, last = SCENARIO.applications()
    for each in most:
        watch.passed(each, "planner", {"plan": {"approve": True}})
        watch.passed(each, "executor", {"reference": "r"})
        watch.passed(each, "reviewer", {})
    watch.passed(last, "planner", {"plan": {"approve": True}})
    watch.passed(last, "executor", {"invalidated": 1})
    watch.passed(last, "planner", {"plan": {"approve": False}})
    watch.ended()


@pytest.mark.parametrize(("encoding", "full"), [("utf-8", "█"), ("ascii", "#")])
def test_side_by_side(encoding: str, full: str) -> None:
    terminal = Terminal(encoding)
    plain, ours = (Watch(title, SCENARIO) for title in titles(SCENARIO).values())
    with Board(terminal.console, [plain, ours]) as board:
        board.starts(plain)
        raced(plain)
        board.ends(plain)
    shown = terminal.lines
    last = "\n".join(shown[-10:])
    assert "plain + cache" in last
    assert "Superstep" in last
    assert "decided 59 of 60" in last
    assert "planning 0, drawing 0, booking 1" in last
    assert "model asked 0, plans caught 1" in last
    assert f"{full} 2,500.00" in last
    assert "and 2 more accounts" in last
    assert max(map(len, shown)) <= 80


def test_lines() -> None:
    terminal = Terminal("utf-8", terminal=False)
    watch = Watch("plain + cache", SCENARIO)
    with Board(terminal.console, [watch]) as board:
        board.starts(watch)
        raced(watch)
        board.ends(watch)
    first, second = terminal.lines
    assert first == "plain + cache: 60 flows on 6 accounts, all at once"
    assert second.endswith("14,750.00 drawn, 1 plan caught, model asked 0 times")


def test_nothing() -> None:
    terminal = Terminal("utf-8")
    watch = Watch("plain + cache", SCENARIO)
    with Board(terminal.console, [watch], quiet=True) as board:
        board.starts(watch)
        board.ends(watch)
    assert terminal.lines == []
