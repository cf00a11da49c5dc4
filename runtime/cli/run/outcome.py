"""How a run ended, as JSON or for people, and the exit code it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from superstep.runtime.cli.exits import COMPLETED, INTERRUPTED, Stopped, error_object, exit_code, explain

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
        from superstep.runtime.cli.render import console, print_json, print_questions, print_summary, print_values

        thread = self.report["thread_id"] if self.started else None
        if self.error is not None:
            status = "unfinished" if isinstance(self.error, Stopped) and self.started else "failed"
            self.report |= {"status": status, "error": error_object(self.error, thread)}
        out = console(stderr=as_json)
        if as_json:
            print_json(self.report)
        elif self.error is None:
            print_values(self.report["values"], out)
        if self.report["status"] == "interrupted":
            print_questions(self.report["interrupts"], self.report["thread_id"], out)
        if self.started and not as_json:
            print_summary(self.report, out)
        if self.error is not None:
            explain(self.error, thread=thread, debug=debug)
            return exit_code(self.error)
        return INTERRUPTED if self.report["status"] == "interrupted" else COMPLETED
