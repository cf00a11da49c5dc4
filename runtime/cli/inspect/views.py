"""What `runtime threads`, `history` and `show` print for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.inspect.calls import used_lines
from superstep.runtime.cli.render import STATUS_STYLES, moment, print_questions, print_values, step_names, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

__all__ = ["print_history", "print_state", "print_threads"]


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


def print_state(state: Mapping[str, Any], out: Console) -> None:
    """Print the state of a thread: what it is, its values, what runs next, what it waits for."""
    head = f"thread {state['thread_id']} · {state['graph'] or 'unknown graph'} · {state['status']}"
    out.print(head, style=STATUS_STYLES.get(state["status"], ""), soft_wrap=True)
    out.print(f"checkpoint {state['checkpoint_id']} · {state['created_at']}", soft_wrap=True)
    if state["note"]:
        out.print(state["note"], style="yellow", soft_wrap=True)
    print_values(state["values"], out)
    if state["next"]:
        out.print(f"next: {', '.join(state['next'])}", soft_wrap=True)
    for task in state["tasks"]:
        if task["error"]:
            out.print(f"{task['name']} failed: {task['error']}", style="red", soft_wrap=True)
    if state["interrupts"]:
        print_questions(state["interrupts"], state["thread_id"], out)
