"""Figures as Markdown. Pure."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["number", "ratio", "rotated", "table"]


def number(value: float) -> str:
    """A figure with as many digits as it deserves."""
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over rounds of ours / theirs: neighbours in time, so that a slow minute cancels out."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """The contenders in another order every round: whoever comes first after a pause has no advantage."""
    shift = turn % len(names)
    return [*names[shift:], *names[:shift]]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table: text left, figures right."""
    body = [list(row) for row in rows]
    figures = [all(isinstance(row[at], int | float) for row in body) for at in range(len(head))]
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("--:" if right else "---" for right in figures) + "|"]
    lines += [
        "| " + " | ".join(number(x) if isinstance(x, int | float) else str(x) for x in row) + " |" for row in body
    ]
    return "\n".join(lines) + "\n"
