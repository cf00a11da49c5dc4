"""What a run shows while it runs: one line per committed super-step, a spinner for the running one.

On a terminal the spinner names the nodes at work. Elsewhere the same lines come out plain. Under `--json` they go to
standard error, and only if that is a terminal.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from superstep.runtime.cli.render import count, json_text, step_names

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from types import TracebackType
    from typing import Self

    from rich.console import Console
    from rich.status import Status
    from rich.text import Text

__all__ = ["RunProgress"]


class RunProgress:
    """Shows a run. Use it as a context manager around the run.

    Args:
        out: Where to write.
        quiet: Show nothing but what `stream` names.
        stream: What else to show as it comes: `updates`, `values` or `messages`.

    Attributes:
        about_models: what is said of the models when the first one has been asked, if anything.
        since: the latest checkpoint from before the run; super-steps up to it are not shown.
    """

    def __init__(self, out: Console, *, quiet: bool = False, stream: str | None = None) -> None:
        self.out = out
        self.quiet = quiet
        self.stream = stream
        self.about_models: str | None = None
        self.since: str | None = None
        self._running: dict[Hashable, str] = {}
        self._status: Status | None = None
        self._seen: set[tuple[str, str]] = set()
        self._mid_line = False
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        if self.out.is_terminal and not self.quiet:
            self._status = self.out.status(_AtWork(self), spinner="line" if self.out.options.ascii_only else "dots")
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end_line()
        if self._status:
            self._status.stop()

    @property
    def shown(self) -> bool:
        """Whether a super-step has been seen to commit."""
        return bool(self._seen)

    def say(self, text: str, style: str = "") -> None:
        """Print a line, unless quiet."""
        if not self.quiet:
            self.end_line()
            self.out.print(text, style=style or None, soft_wrap=True)

    def end_line(self) -> None:
        """Finish a line of tokens, if one is open."""
        if self._mid_line:
            self.out.print()
            self._mid_line = False
            if self._status:
                self._status.start()

    def node_started(self, run: Hashable, name: str) -> None:
        """Show a node at work, by an identity of its own."""
        self._running[run] = name

    def node_ended(self, run: Hashable) -> None:
        """Show that a node's work has ended, well or not."""
        self._running.pop(run, None)

    def at_work(self) -> str:
        """Return the nodes at work, and for how long the run has been going."""
        names = sorted(Counter(self._running.values()).items())
        text = ", ".join(f"{name} x{number}" if number > 1 else name for name, number in names)
        return f"{text or ('committing' if self.shown else 'starting')} · {_span(time.monotonic() - self.began)}"

    def committed(self, steps: list[dict[str, Any]]) -> None:
        """Print the super-steps that have committed since the last call."""
        for step in steps:
            key = (step["checkpoint_ns"], step["checkpoint_id"])
            if key not in self._seen:
                self._seen.add(key)
                if not step["nodes"]:
                    continue  # LangGraph's own step that hands the input to the first nodes
                self.say(f"{step['step']:>3}  {step_names(step):<28} {_detail(step)}")
                if step["llm_paid"] and self.about_models:
                    self.say(self.about_models, "yellow")
                    self.about_models = None

    def conflict(self, error: Any) -> None:
        """Show that a super-step is about to be tried again, because facts have changed under it."""
        self._running.clear()
        names = ", ".join(error.tasks) or "the step"
        self.say(f"     facts of {names} changed, running again (attempt {error.attempts + 1})", "yellow")

    def chunk(self, mode: str, chunk: Any) -> None:
        """Show a piece of the stream, if it is of the mode to show."""
        if mode != self.stream:
            return
        if mode != "messages":
            self.end_line()
            self.out.print(json_text(chunk, encoding=self.out.encoding, indent=None), soft_wrap=True)
            return
        message = chunk[0] if isinstance(chunk, tuple) else chunk
        text = _message_text(message).replace("\r", "")
        if text:
            if self._status:  # tokens are written piece by piece, which a spinner on the same line would tear apart
                self._status.stop()
            self.out.print(text, end="", soft_wrap=True)
            self._mid_line = not text.endswith("\n")
            if self._status and not self._mid_line:
                self._status.start()
        if getattr(message, "chunk_position", "last") == "last":
            self.end_line()


class _AtWork:
    """What the spinner says, made anew each time it is drawn: no node need start or end for the time to move."""

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress

    def __rich__(self) -> Text:
        from rich.text import Text

        return Text(self._progress.at_work())  # a plain text would be read as markup


def _span(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def _message_text(message: Any) -> str:
    content = getattr(message, "content", "")
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") if isinstance(block, dict) else str(block) for block in content)


def _detail(step: Mapping[str, Any]) -> str:
    parts = [f"{step['ms']:>7.0f} ms"]
    if step["attempts"] > 1:
        parts.append(count(step["attempts"], "attempt"))
    parts += [count(step[key], noun) for key, noun in (("repairs", "repair"), ("drifts", "drift")) if step[key]]
    if step["escalated"]:
        parts.append("escalated")
    parts += [count(step[key], noun) for key, noun in (("reads", "read"), ("writes", "write")) if step[key]]
    if step["llm_paid"] or step["llm_reused"]:
        reused = f", {step['llm_reused']} reused" if step["llm_reused"] else ""
        parts.append(f"{count(step['llm_paid'], 'LLM call')} paid{reused}")
    return " · ".join(parts)
