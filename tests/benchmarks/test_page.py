"""Sections that were run by themselves, in a page of a whole run."""

from __future__ import annotations

from tests.benchmarks.page import updated
from tests.benchmarks.section import Curves, Goal, Section, goals_of

OLD = [
    Section("## One\n\nfirst\n", [Goal("a", "1", "2", holds=False)]),
    Section("## Two\n\nsecond\n\n## Three\n\nthird\n", [Goal("b", "1", "1", holds=True)]),
]


def test_they_take_the_places_of_their_former_ones() -> None:
    page = "\n".join(["# Title\n\nhead\n", goals_of(OLD), "## Tried\n\nmuch\n", *(each.text for each in OLD)])
    curves = Curves("plot", "A plot", "x", "y", {})
    new = [
        Section("## Two\n\nagain\n", [Goal("b", "3", "1", holds=False), Goal("c", "1", "1", holds=True)], [curves]),
        Section("## Four\n\nfourth\n"),
    ]
    assert updated(page, new, "plots", "Run today.") == (
        "# Title\n\nhead\n\n## Goals\n\n| work | got | goal |  |\n|---|---|---|---|\n| a | 1 | 2 | **falls short** |\n"
        "| b | 3 | 1 | **falls short** |\n| c | 1 | 1 | holds |\n\n## Tried\n\nmuch\n\n## One\n\nfirst\n\n"
        "## Two\n\nRun today.\n\nagain\n\n![A plot](plots/plot.png)\n\n## Three\n\nthird\n\n"
        "## Four\n\nRun today.\n\nfourth\n"
    )
