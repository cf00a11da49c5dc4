"""What a benchmark has to tell: a text, figures beside their goals, and curves. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.benchmarks.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Curves", "Goal", "Section", "goals_of"]


class Goal(NamedTuple):
    """A figure beside what it is to reach: the work, what was measured (with its peer), the goal, whether it holds."""

    work: str
    got: str
    goal: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Curves:
    """A plot.

    Attributes:
        name: of its file.
        title: above it.
        x: what goes to the right, and `y` upwards, with their units.
        y: as said.
        lines: points by the name of the line.
        doubling: the axis to the right doubles from mark to mark.
    """

    name: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    doubling: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True)
class Section:
    """Of the page: Markdown with a heading, goals for the table on top, plots below the text."""

    text: str
    goals: Sequence[Goal] = ()
    curves: Sequence[Curves] = ()

    def page(self, folder: str) -> str:
        """With its plots, which are in the folder."""
        return self.text + "".join(f"\n![{each.title}]({folder}/{each.name}.png)\n" for each in self.curves)


def goals_of(sections: Iterable[Section]) -> str:
    """The table on top."""
    goals = [goal for section in sections for goal in section.goals]
    rows = [[each.work, each.got, each.goal, "holds" if each.holds else "**falls short**"] for each in goals]
    return "## Goals\n\n" + table(["work", "got", "goal", ""], rows) if rows else ""
