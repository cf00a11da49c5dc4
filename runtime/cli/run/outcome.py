"""How a run ended, as JSON or for people, and the exit code it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.exits import COMPLETED, INTERRUPTED, Stopped, error_object, exit_code, explained
from superstep.runtime.cli.render import (
    STATUS_STYLES,
    complain,
    console,
    count,
    print_json,
    print_questions,
    print_values,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

__all__ = ["Outcome", "blank_report"]


def blank_report(thread: str | None, graph: str | None) -> dict[str, Any]:
    """Return the report of a run that has not done anything."""
    usage = {"llm_paid": 0, "llm_reused": 0, "input_tokens": 0, "output_tokens": 0, "usd": 0.0}
    return {
        "thread_id": thread,
        "graph": graph,
        "status": "failed",
        "values": {},
        "interrupts": [],
        "steps": [],
        "usage": usage,
        "error": None,
    }


@dataclass(slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        report: the object that `--json` prints.
        error: what ended it, if it failed.
        started: whether anything was stored, so that the thread can be resumed.
    """

    report: dict[str, Any]
    error: Exception | None = None
    started: bool = True

    def show(self, *, as_json: bool, debug: bool) -> int:
        """Print the outcome and return the exit code."""
        thread = self.report["thread_id"] if self.started else None
        if self.error is not None:
            status = "unfinished" if isinstance(self.error, Stopped) and self.started else "failed"
            self.report |= {"status": status, "error": error_object(self.error, thread)}
        out = console(stderr=as_json)
        if as_json:
            print_json(self.report)
        if self.report["status"] == "interrupted":
            print_questions(self.report["interrupts"], self.report["thread_id"], out)
        if self.error is None and not as_json:
            print_values(self.report["values"], out)
        if self.started and not as_json:
            _print_summary(self.report, out)
        if self.error is not None:
            complain(explained(self.error, thread=thread, debug=debug))
            return exit_code(self.error)
        return INTERRUPTED if self.report["status"] == "interrupted" else COMPLETED


def _print_summary(report: Mapping[str, Any], out: Console) -> None:
    """Print one line: how it ended, in how many steps, and what it cost."""
    steps, usage = [step for step in report["steps"] if step["nodes"]], report["usage"]
    parts = [count(len(steps), "step")]
    parts += [
        count(total, noun)
        for key, noun in (("repairs", "repair"), ("drifts", "drift"))
        if (total := sum(step[key] for step in steps))
    ]
    if usage["llm_paid"] or usage["llm_reused"]:
        reused = f", {usage['llm_reused']} reused" if usage["llm_reused"] else ""
        model = " (offline)" if usage.get("offline") else ""
        parts.append(f"{count(usage['llm_paid'], 'LLM call')} paid{reused}{model}")
        parts.append(f"{usage['input_tokens']} tokens in, {usage['output_tokens']} out")
    if usage.get("usd"):
        parts.append(f"${usage['usd']:.4f}")
    parts.append(f"{sum(step['ms'] for step in steps):.0f} ms")
    out.print(
        f"{report['status']} · " + " · ".join(parts), style=STATUS_STYLES.get(report["status"], ""), soft_wrap=True
    )
