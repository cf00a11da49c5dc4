"""The picture of a race: what was drawn on each account, draw by draw, and the numbers beside it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.demo.views import titles
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from superstep.runtime.cli.demo.measures import Numbers, Recorded
    from superstep.runtime.cli.demo.scenario import Scenario

__all__ = ["draw", "require"]

BARS = (
    ("wrong\ndecisions", "wrong_decisions"),
    ("double\nspends", "double_spends"),
    ("invalid plans\ncarried out", "plans_executed_invalid"),
    ("invalid plans\ncaught", "plans_caught"),
    ("LLM calls\npaid", "llm_paid"),
)
COLOURS = ("tab:red", "tab:green")


def require() -> None:
    """Look for what draws.

    Raises:
        ConfigError: It is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib. Install it with: pip install 'superstep-runtime[plot]'")


def draw(file: Path, scenario: Scenario, sides: dict[str, tuple[Recorded, Numbers]]) -> None:
    """Write a PNG.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), dpi=120, layout="constrained")
    grid = figure.add_gridspec(2, len(sides))
    top = max(2 * scenario.most_today, scenario.credit_limit, *(_highest(found) for found, _ in sides.values()))
    names = titles(scenario)
    for n, (side, (found, _)) in enumerate(sides.items()):
        _draws(figure.add_subplot(grid[0, n]), names[side], found, scenario, top / 100)
    _bars(figure.add_subplot(grid[1, :]), {names[side]: counted for side, (_, counted) in sides.items()})
    figure.suptitle(f"{scenario.flows} flows, {scenario.accounts} accounts, {scenario.thinking:g} s of thinking")
    figure.savefig(file, format="png", metadata={"Software": None})


def _highest(found: Recorded) -> int:
    return max((each["drawn"] for each in found.accounts), default=0)


def _draws(axes: Any, name: str, found: Recorded, scenario: Scenario, top: float) -> None:
    for account in found.accounts:
        at, height = [0], [0.0]
        for n, row in enumerate(found.draws, start=1):
            if row["account_id"] == account["id"]:
                at.append(n)
                height.append((row["drawn_before"] + row["amount"]) / 100)
        axes.step([*at, len(found.draws)], [*height, height[-1]], where="post", linewidth=1.2)
    wrong = [
        (n, (row["drawn_before"] + row["amount"]) / 100)
        for n, row in enumerate(found.draws, start=1)
        if row["drawn_before"] + row["amount"] > min(row["credit_limit"], row["most_today"])
    ]
    axes.plot([n for n, _ in wrong], [y for _, y in wrong], "x", color="tab:red", label="not allowed")
    axes.axhline(scenario.most_today / 100, color="black", linestyle=":", label="a day's limit")
    axes.axhline(scenario.credit_limit / 100, color="black", linestyle="--", label="credit line")
    axes.set(title=name, xlabel="draw", ylabel="drawn on each account", ylim=(0, top * 1.05))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")


def _bars(axes: Any, sides: dict[str, Numbers]) -> None:
    width = 0.8 / len(sides)
    for n, (name, counted) in enumerate(sides.items()):
        heights = [getattr(counted, key) for _, key in BARS]
        bars = axes.bar([at + n * width for at in range(len(BARS))], heights, width, label=name, color=COLOURS[n])
        axes.bar_label(bars)
    axes.set_xticks([at + width * (len(sides) - 1) / 2 for at in range(len(BARS))], [label for label, _ in BARS])
    axes.margins(y=0.15)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
