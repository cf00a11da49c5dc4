"""Output that several commands share: consoles, JSON, tables, values and questions."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from superstep.runtime.flow.jsonable import as_json_text

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping, Sequence

    from rich.console import Console

__all__ = [
    "OutputClosed",
    "STATUS_STYLES",
    "console",
    "count",
    "moment",
    "print_json",
    "print_questions",
    "print_values",
    "safe",
    "step_names",
    "table",
]

STATUS_STYLES = {"completed": "green", "interrupted": "yellow", "failed": "red", "unfinished": "cyan"}
LEAST_WIDTH = 160  # of a table that is written to a file: wrapping would break what reads it


class OutputClosed(BrokenPipeError):
    """The reader of our output has gone. A class of its own: a node may raise `BrokenPipeError` about its own pipes."""


def console(*, stderr: bool = False) -> Console:
    """Return a console whose broken pipe is the caller's to handle, and which never reads markup in values."""
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> None:
            raise OutputClosed

    made = _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = max(made.width, LEAST_WIDTH)
    return made


def safe(text: str) -> str:
    """Remove control characters: a value from a model or a database must not drive the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)


def print_json(value: Any) -> None:
    """Print one JSON value on standard output and nothing else."""
    try:
        sys.stdout.write(as_json_text(value, encoding=sys.stdout.encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error


def moment(when: datetime.datetime | None) -> str:
    """Return a time in the local zone, to the second."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S") if when else ""


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it must be."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]], out: Console) -> None:
    """Print a table. A column is a name and "right" or ""; cells are shown as they are, without control characters."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, side in columns:
        drawn.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(safe(str(cell)), style=STATUS_STYLES.get(str(cell), "")) for cell in row))
    out.print(drawn)


def step_names(step: Mapping[str, Any]) -> str:
    """Return the nodes of a super-step, after the path of the subgraph they ran in."""
    path = "/".join(part.split(":")[0] for part in str(step.get("checkpoint_ns") or "").split("|") if part)
    names = ", ".join(step["nodes"])
    return f"{path}/{names}" if path else names


def print_values(values: Any, out: Console) -> None:
    """Print the values of a thread as JSON, coloured on a terminal."""
    from rich.json import JSON

    text = as_json_text(values, encoding=out.encoding)
    if out.is_terminal:
        out.print(JSON(text, indent=2, ensure_ascii=False))
    else:
        out.print(text, soft_wrap=True)


def print_questions(interrupts: Sequence[Mapping[str, Any]], thread: str, out: Console) -> None:
    """Print what a run waits for, and how to answer."""
    for interrupt in interrupts:
        again = " (asked again: facts it was built on have changed)" if interrupt.get("facts_changed") else ""
        out.print(f"? {interrupt['id']}{again}", style="yellow")
        print_values(interrupt["value"], out)
    if len(interrupts) > 1:
        example = '{"ID": ANSWER, …}'
        out.print(f"Answer with: runtime resume {thread} --value '{example}'", soft_wrap=True)
    else:
        value = " --value JSON" if interrupts else ""
        out.print(f"{'Answer' if interrupts else 'Continue'} with: runtime resume {thread}{value}", soft_wrap=True)
