"""What goes on, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.render import count, moment
from superstep.runtime.settings.shown import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from superstep.checkpointer import Activity, RunningThread

__all__ = ["activity_object", "lines"]

WIDTH = 80  # of the table, unless the terminal is wider


def activity_object(found: Activity) -> dict[str, Any]:
    """All of it."""
    return asdict(found)


def lines(found: Activity, out: Console) -> Iterator[RenderableType]:
    """What is printed, from the top down. No line is wider than 80 characters on a terminal of that width."""
    from rich.text import Text

    more = " or more" if found.more_running else ""
    yield Text(f"{moment(found.at)}  {count(len(found.running), 'flow')}{more} running", style="bold")
    yield Text(
        f"last minute  {count(found.steps, 'super-step')}, {count(found.conflicts, 'conflict')}, "
        f"{count(found.repairs, 'repair')}"
    )
    yield Text(f"             {count(found.calls_minute, 'call')} of models, {_money(found.usd_minute)}")
    yield Text(
        f"last hour    {count(found.calls_hour, 'call')} of models, {_money(found.usd_hour)}, "
        f"{count(found.tokens_hour, 'token')}"
    )
    if found.running:
        yield _table(found.running, out)


def _table(running: list[RunningThread], out: Console) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, width=max(WIDTH, min(out.width, 120)))
    drawn.add_column("thread", no_wrap=True, overflow="ellipsis", ratio=3)
    drawn.add_column("graph", no_wrap=True, overflow="ellipsis", ratio=3)
    for name in ("step", "for", "run", "tries"):
        drawn.add_column(name, justify="right", no_wrap=True)
    drawn.add_column("process", no_wrap=True, overflow="ellipsis", ratio=2)
    for each in running:
        cells = (
            each.thread_id,
            each.graph or "?",
            str(each.step),
            _age(each.step_seconds),
            _age(each.run_seconds),
            str(each.attempts),
            f"{each.runner.pid} {each.runner.host}",
        )
        style = "yellow" if each.attempts > 1 else ""
        drawn.add_row(*(Text(safe(cell), style=style) for cell in cells))
    return drawn


def _money(usd: float | None) -> str:
    return "no prices known" if usd is None else f"${usd:.4f}" if usd < 1 else f"${usd:,.2f}"


def _age(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 0):.1f}s"
    return f"{seconds / 60:.0f}m" if seconds < 6_000 else f"{seconds / 3600:.0f}h"
