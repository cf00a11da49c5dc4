"""What `runtime threads`, `history` and `show` print for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.inspect.calls import used_lines
from superstep.runtime.cli.render import (
    STATUS_STYLES,
    moment,
    print_questions,
    print_values,
    short_ids,
    step_names,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Of a super-step: heading, key, and the value that says nothing.
NUMBERS = (
    ("tries", "attempts", 1),
    ("repairs", "repairs", 0),
    ("drifts", "drifts", 0),
    ("reads", "reads", 0),
    ("writes", "writes", 0),
    ("paid", "llm_paid", 0),
    ("reused", "llm_reused", 0),
)

__all__ = ["print_history", "print_state", "print_threads"]


def print_threads(threads: Sequence[Any], out: Console, *, versions: bool = False, some: bool = False) -> None:
    """Print threads, the one that changed last first. `some`: there may be others, which were not asked for."""
    if not threads and some:
        out.print("No such thread.")
        return
    if not threads:
        out.print("No threads yet. Start one with: runtime run GRAPH --input JSON")
        return
    # Ids that people have not chosen are shown by their beginnings, which every command takes.
    short = short_ids([t.thread_id for t in threads if _UUID.fullmatch(t.thread_id)])
    shown = [("version", "")] if versions else []
    columns = [("thread", ""), ("graph", ""), *shown, ("status", "whole"), ("steps", "right"), ("changed", "whole")]
    rows = [
        (
            short.get(t.thread_id, t.thread_id),
            t.graph or "",
            *((t.version or "",) if versions else ()),
            "running" if t.runner else t.status,
            t.steps,
            moment(t.updated_at),
        )
        for t in threads
    ]
    table(columns, rows, out)


def print_history(steps: Sequence[Mapping[str, Any]], out: Console) -> None:
    """Print the super-steps of a thread in the order they committed, and what models and prompts they used."""
    if not steps:
        out.print("No super-step has committed yet.")
        return
    # Only numbers that are not the same everywhere for want of anything to count: the table has to fit a terminal.
    used = [(name, key) for name, key, plain in NUMBERS if any(s[key] != plain for s in steps)]
    columns = [("step", "right"), ("nodes", ""), ("commit", ""), *((name, "right") for name, _ in used)]
    short = short_ids([s["checkpoint_id"] for s in steps])
    rows = [
        (
            s["step"],
            step_names(s),
            (s["commit"] or "") + (" (escalated)" if s["escalated"] else ""),
            *(s[key] for _, key in used),
            f"{s['ms']:.0f}",
            short[s["checkpoint_id"]],
        )
        for s in steps
    ]
    table([*columns, ("ms", "right"), ("checkpoint", "")], rows, out)
    if models := [(s["step"], step_names(s), "\n".join(lines)) for s in steps if (lines := used_lines(s))]:
        table([("step", "right"), ("nodes", ""), ("models and prompts", "")], models, out)


def print_state(state: Mapping[str, Any], out: Console) -> None:
    """Print the state of a thread: what it is, its values, what runs next, what it waits for."""
    head = f"thread {state['thread_id']} · {state['graph'] or 'unknown graph'} · {state['status']}"
    out.print(head, style=STATUS_STYLES.get(state["status"], ""), soft_wrap=True)
    if state["runner"]:
        out.print(f"being run by {state['runner']}", soft_wrap=True)
    out.print(f"checkpoint {state['checkpoint_id']} · {state['created_at']}", soft_wrap=True)
    if state["note"]:
        out.print(state["note"], style="yellow", soft_wrap=True)
    if state["next"]:
        out.print(f"next: {', '.join(state['next'])}", soft_wrap=True)
    for task in state["tasks"]:
        if task["error"]:
            out.print(f"{task['name']} failed: {task['error']}", style="red", soft_wrap=True)
    if state["interrupts"]:
        print_questions(state["interrupts"], state["thread_id"], out)
    print_values(state["values"], out)
