"""Output for people that several commands share: consoles, tables, values and questions; and the JSON of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from superstep.runtime.cli.render.streams import OutputClosed, answer, answer_encoding, encodable
from superstep.runtime.flow.jsonable import as_json_text
from superstep.runtime.settings.shown import safe, safe_json, shell_word

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.segment import Segment

__all__ = [
    "STATUS_STYLES",
    "console",
    "count",
    "json_text",
    "moment",
    "print_json",
    "print_questions",
    "print_values",
    "short_ids",
    "step_names",
    "table",
]

STATUS_STYLES = {
    "completed": "green",
    "interrupted": "yellow",
    "failed": "red",
    "unfinished": "cyan",
    "cancelled": "red",
    "running": "cyan",
}
_ASKED_AGAIN = "asked again: facts have changed, or what was answered could not be written"
LEAST_WIDTH = 160  # of a table that is written to a file: wrapping would break what reads it


def console(*, stderr: bool = False) -> Console:
    """Return a console that is safe to print anything on.

    It never reads markup in values, no control character of what is printed gets through, and a broken pipe is the
    caller's to handle.
    """
    from rich.console import Console
    from rich.segment import Segment

    class _Console(Console):
        def on_broken_pipe(self) -> None:
            raise OutputClosed

        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            # Here text and the terminal's own codes are still apart.
            for each in super().render(renderable, options):
                yield each if each.control else Segment(safe(each.text), each.style)

    made = _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = max(made.width, LEAST_WIDTH)
    return made


def json_text(value: Any, *, encoding: str | None, indent: int | None = 2) -> str:
    """Return the JSON text of a value, in characters that an encoding has and that are safe on a terminal."""
    return safe_json(as_json_text(value, encoding=encoding, indent=indent))


def print_json(value: Any) -> None:
    """Print one JSON value on standard output and nothing else."""
    answer(json_text(value, encoding=answer_encoding()) + "\n")


def moment(when: datetime.datetime | None) -> str:
    """Return a time in the local zone, to the second."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S") if when else ""


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it must be."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return of each id the shortest beginning, of eight characters or more, that no other one has."""
    known = sorted(set(ids))
    short = {}
    for index, each in enumerate(known):
        beside = [known[at] for at in (index - 1, index + 1) if 0 <= at < len(known)]
        shared = max((_shared(each, other) for other in beside), default=0)
        short[each] = each[: max(8, shared + 1)]
    return short


def _shared(one: str, other: str) -> int:
    """The length of what two texts begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]], out: Console) -> None:
    """Print a table; cells are shown as they are, but for control characters.

    Args:
        columns: Each is a name and "right" for numbers, "whole" for what must not be broken over lines, or "".
        rows: Their cells.
        out: Where to.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, side in columns:
        justify: Literal["right", "left"] = "right" if side == "right" else "left"
        drawn.add_column(name, justify=justify, overflow="fold", no_wrap=side == "whole")
    for row in rows:
        drawn.add_row(
            *(Text(encodable(safe(str(cell)), out.encoding), style=STATUS_STYLES.get(str(cell), "")) for cell in row)
        )
    out.print(drawn)


def step_names(step: Mapping[str, Any]) -> str:
    """Return the nodes of a super-step, after the path of the subgraph they ran in."""
    path = "/".join(part.split(":")[0] for part in str(step.get("checkpoint_ns") or "").split("|") if part)
    names = ", ".join(step["nodes"])
    return f"{path}/{names}" if path else names


def print_values(values: Any, out: Console) -> None:
    """Print the values of a thread as JSON, coloured on a terminal."""
    from rich.json import JSON

    text = json_text(values, encoding=out.encoding)
    if out.is_terminal:
        out.print(JSON(text, indent=2, ensure_ascii=False))
    else:
        out.print(text, soft_wrap=True)


def print_questions(interrupts: Sequence[Mapping[str, Any]], thread: str, out: Console) -> None:
    """Print what a run waits for, and how to answer."""
    for interrupt in interrupts:
        again = f" ({_ASKED_AGAIN})" if interrupt.get("facts_changed") else ""
        out.print(f"? {interrupt['id']}{again}", style="yellow")
        print_values(interrupt["value"], out)
    if len(interrupts) > 1:
        example = '{"ID": ANSWER, …}'
        out.print(f"Answer with: runtime resume {shell_word(thread)} --value '{example}'", soft_wrap=True)
    else:
        value = " --value JSON" if interrupts else ""
        verb = "Answer" if interrupts else "Continue"
        out.print(f"{verb} with: runtime resume {shell_word(thread)}{value}", soft_wrap=True)
