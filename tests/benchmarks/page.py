"""The page of benchmarks as text: sections that were run by themselves take the places of their former ones. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.benchmarks.section import goals_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.section import Section

__all__ = ["updated"]

_GOALS = "## Goals\n"


def updated(page: str, sections: Sequence[Section], folder: str, run: str) -> str:
    """The page with these sections in place of those of the same headings, new ones at its end, and their goals.

    Args:
        page: as it was written.
        sections: that were run by themselves.
        folder: of plots.
        run: when and on what, which is said below each heading.
    """
    head, *parts = re.split(r"(?m)^(?=## )", page)
    known = {_heading(part): part for part in parts}
    for section in sections:
        for part in re.split(r"(?m)^(?=## )", section.page(folder))[1:]:
            heading = _heading(part)
            known[heading] = f"{heading}\n{run}\n{part.removeprefix(heading)}"
    known[_GOALS] = _with_goals(known[_GOALS], sections)
    return head + "\n".join(part.rstrip() + "\n" for part in known.values())


def _heading(part: str) -> str:
    return part[: part.index("\n") + 1]


def _with_goals(goals: str, sections: Sequence[Section]) -> str:
    """Rows by the work that they are about; those of this run in place of former ones."""
    rows = {_work(row): row for row in (*_rows(goals), *_rows(goals_of(sections)))}
    head, rule = re.match(r"(.*?\n)(\|[-:|]+\|\n)", goals, re.DOTALL).groups()  # type: ignore[union-attr]
    return head + rule + "".join(f"{row}\n" for row in rows.values())


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")][2:]


def _work(row: str) -> str:
    return row.split("|")[1].strip()
