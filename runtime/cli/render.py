"""Human output: consoles, tables, values, questions and the line that sums a run up."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.inspect.calls import used_lines
from superstep.runtime.flow.jsonable import as_json_text

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping, Sequence

    from rich.console import Console

__all__ = [
    "OutputClosed",
    "console",
    "print_history",
    "print_json",
    "print_questions",
    "print_summary",
    "print_threads",
    "print_values",
    "safe",
    "table",
]

STATUS_STYLES = {"completed": "green", "interrupted": "yellow", "failed": "red", "unfinished": "cyan"}
LEAST_WIDTH = 160  # of a table that is written to a file: wrapping would break what reads it


class OutputClosed(BrokenPipeError):
    """Whoever read our output has gone. A class of its own: a node may raise `BrokenPipeError` about its own pipes."""


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


def print_threads(threads: Sequence[Any], out: Console) -> None:
    """Print threads, the one that changed last first."""
    if not threads:
        out.print("No threads yet. Start one with: runtime run GRAPH --input JSON")
        return
    columns = [("thread", ""), ("graph", ""), ("status", ""), ("steps", "right"), ("started", ""), ("changed", "")]
    rows = [
        (t.thread_id, t.graph or "", t.status, t.steps, moment(t.created_at), moment(t.updated_at)) for t in threads
    ]
    table(columns, rows, out)


def step_names(step: Mapping[str, Any]) -> str:
    """Return the nodes of a super-step, after the path of the subgraph they ran in."""
    path = "/".join(part.split(":")[0] for part in str(step.get("checkpoint_ns") or "").split("|") if part)
    names = ", ".join(step["nodes"])
    return f"{path}/{names}" if path else names


def print_history(steps: Sequence[Mapping[str, Any]], out: Console) -> None:
    """Print the super-steps of a thread in the order they committed, and what models and prompts they used."""
    if not steps:
        out.print("No super-step has committed yet.")
        return
    numbers = ["attempts", "repairs", "drifts", "reads", "writes", "paid", "reused", "ms"]
    columns = [("step", "right"), ("nodes", ""), ("commit", ""), *((n, "right") for n in numbers), ("checkpoint", "")]
    rows = [
        (
            s["step"],
            step_names(s),
            (s["commit"] or "") + (" (escalated)" if s["escalated"] else ""),
            *(s[key] for key in ("attempts", "repairs", "drifts", "reads", "writes", "llm_paid", "llm_reused")),
            f"{s['ms']:.1f}",
            s["checkpoint_id"],
        )
        for s in steps
    ]
    table(columns, rows, out)
    if used := [(s["step"], step_names(s), "\n".join(lines)) for s in steps if (lines := used_lines(s))]:
        table([("step", "right"), ("nodes", ""), ("models and prompts", "")], used, out)


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


def print_summary(report: Mapping[str, Any], out: Console) -> None:
    """Print one line: how it ended, in how many steps, and what it cost."""
    steps, usage = [step for step in report["steps"] if step["nodes"]], report["usage"]
    parts = [count(len(steps), "step")]
    parts += [
        count(total, noun)
        for key, noun in (("repairs", "repair"), ("drifts", "drift"))
        if (total := sum(step[key] for step in steps))
    ]
    if usage["llm_paid"] or usage["llm_reused"]:
        model = " (offline model)" if usage.get("offline") else ""
        parts.append(f"{count(usage['llm_paid'], 'LLM call')} paid, {usage['llm_reused']} reused{model}")
        parts.append(f"{usage['input_tokens']} tokens in, {usage['output_tokens']} out")
    if usage.get("usd"):
        parts.append(f"${usage['usd']:.4f}")
    parts.append(f"{sum(step['ms'] for step in steps):.0f} ms")
    out.print(
        f"{report['status']} · " + " · ".join(parts), style=STATUS_STYLES.get(report["status"], ""), soft_wrap=True
    )


def print_state(state: Mapping[str, Any], out: Console) -> None:
    """Print the state of a thread: what it is, its values, what runs next, what it waits for."""
    head = f"thread {state['thread_id']} · {state['graph'] or 'unknown graph'} · {state['status']}"
    out.print(safe(head), style=STATUS_STYLES.get(state["status"], ""), soft_wrap=True)
    out.print(f"checkpoint {state['checkpoint_id']} · {state['created_at']}", soft_wrap=True)
    if state["note"]:
        out.print(safe(state["note"]), style="yellow", soft_wrap=True)
    print_values(state["values"], out)
    if state["next"]:
        out.print(f"next: {', '.join(state['next'])}", soft_wrap=True)
    for task in state["tasks"]:
        if task["error"]:
            out.print(safe(f"{task['name']} failed: {task['error']}"), style="red", soft_wrap=True)
    if state["interrupts"]:
        print_questions(state["interrupts"], state["thread_id"], out)
