"""What is shown while a side runs: both side by side on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.demo.views import money
from superstep.runtime.cli.render import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

    from superstep.runtime.cli.demo.model import Model
    from superstep.runtime.cli.demo.scenario import Application, Scenario

__all__ = ["Board", "Watch"]

SHOWN = 4  # accounts with a bar of their own
BAR = 20


class Watch:
    """How far a side is, as seen from outside: what its flows' streams say.

    Attributes:
        title: what the side is called.
        at: how many flows are before which node; "done" after the last.
        drawn: what has been drawn by account, in cents.
        caught: plans that were found to have no room any more.
        seconds: how long it took, once it is over.
    """

    def __init__(self, title: str, scenario: Scenario) -> None:
        self.title = title
        self.scenario = scenario
        self.at: Counter[str] = Counter()
        self.drawn: Counter[str] = Counter()
        self.caught = 0
        self.seconds: float | None = None
        self._model: Model | None = None
        self._began = 0.0

    def began(self, model: Model) -> None:
        """All flows start."""
        self._model = model
        self._began = time.monotonic()
        self.at["planner"] = self.scenario.flows

    def passed(self, application: Application, node: str, update: Mapping[str, Any]) -> None:
        """A node of a flow has ended, and its super-step is committed."""
        self.at[node] -= 1
        if node == "planner":
            self.at["executor" if update["plan"]["approve"] else "reviewer"] += 1
        elif node == "reviewer":
            self.at["done"] += 1
        elif "reference" in update:
            self.at["reviewer"] += 1
            self.drawn[application.account_id] += application.amount
        else:
            self.at["planner"] += 1
            self.caught += 1

    def ended(self) -> None:
        """All flows are at their ends."""
        self.seconds = self.now

    @property
    def now(self) -> float:
        """Seconds since the start, or from the start to the end."""
        if self.seconds is not None:
            return self.seconds
        return time.monotonic() - self._began if self._model else 0.0

    @property
    def asked(self) -> int:
        """Requests that the model began to answer."""
        return len(self._model.asked) if self._model else 0


class Board:
    """Shows the sides. Use it as a context manager around the race.

    Args:
        out: Where to write.
        watches: The sides, in the order in which they run.
        quiet: Show nothing.
    """

    def __init__(self, out: Console, watches: Sequence[Watch], *, quiet: bool = False) -> None:
        self._out = out
        self._watches = watches
        self._quiet = quiet
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._out.is_terminal and not self._quiet:
            from rich.live import Live

            self._live = Live(_SideBySide(self._watches), console=self._out, refresh_per_second=12)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def starts(self, watch: Watch) -> None:
        """A side is about to run."""
        flows, accounts = count(watch.scenario.flows, "flow"), count(watch.scenario.accounts, "account")
        self._say(f"{watch.title}: {flows} on {accounts}, all at once")

    def ends(self, watch: Watch) -> None:
        """A side has run."""
        drawn, caught = money(sum(watch.drawn.values())), count(watch.caught, "plan")
        self._say(f"  {watch.now:.1f} s, {drawn} drawn, {caught} caught, model asked {watch.asked} times")

    def _say(self, text: str) -> None:
        if not self._live and not self._quiet:
            self._out.print(text, soft_wrap=True)


class _SideBySide:
    """Made anew each time it is drawn: no flow need move for the time to."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    def __rich_console__(self, out: Console, options: Any) -> Any:
        from rich.table import Table

        grid = Table.grid(expand=True, padding=(0, 1))
        for _ in self._watches:
            grid.add_column(ratio=1)
        grid.add_row(*(_panel(watch, ascii_only=options.ascii_only) for watch in self._watches))
        yield grid


def _panel(watch: Watch, *, ascii_only: bool) -> RenderableType:
    from rich.panel import Panel
    from rich.text import Text

    scenario, at = watch.scenario, watch.at
    limits = (scenario.most_today, scenario.credit_limit)
    names = sorted({each.account_id for each in scenario.applications()}, key=lambda name: (len(name), name))
    lines = [
        Text(f"decided {at['done']} of {scenario.flows}   {watch.now:.1f} s"),
        Text(f"planning {at['planner']}, drawing {at['executor']}, booking {at['reviewer']}"),
        Text(f"model asked {watch.asked}, plans caught {watch.caught}"),
        *(_bar(name, watch.drawn[name], limits, ascii_only=ascii_only) for name in names[:SHOWN]),
    ]
    if len(names) > SHOWN:
        lines.append(Text(f"and {len(names) - SHOWN} more accounts", style="dim"))
    return Panel(Text("\n").join(lines), title=Text(watch.title), title_align="left")


def _bar(name: str, drawn: int, limits: tuple[int, int], *, ascii_only: bool) -> Text:
    """What is drawn on an account: green within its limits, yellow beyond the day's, red beyond the line."""
    from rich.text import Text

    today, line = limits
    most = max(2 * today, line, drawn)
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    text = Text(f"{name:<5}")
    for n in range(BAR):
        edge = (n + 1) * most / BAR
        if edge > drawn:
            text.append(empty, "dim")
        else:
            text.append(full, "green" if edge <= today else "yellow" if edge <= line else "red")
    return text.append(f" {money(drawn)}")
