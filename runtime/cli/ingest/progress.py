"""What `runtime ingest` shows while it works, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.cli.render import console

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from rich.progress import Progress, TaskID

    from superstep.checkpointer import Pumped

__all__ = ["IngestProgress"]


class IngestProgress:
    """A line with events, rate and what was put aside; with a bar where the size is known. Nothing without a terminal.

    Args:
        label: what is being worked on.
        total: of `advance`; `None` if it is not known.
        read: how much of it has been read by now.
    """

    def __init__(self, label: str, total: int | None, read: Callable[[], int] | None = None) -> None:
        self._label, self._total, self._read = label, total, read
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        out = console(stderr=True)
        if out.is_terminal:
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

            columns = [SpinnerColumn("line" if out.options.ascii_only else "dots"), TextColumn("{task.description}")]
            bar = [BarColumn(), TextColumn("{task.percentage:>3.0f}%")] if self._total else []
            self._progress = Progress(*columns, *bar, console=out, transient=True)
            self._task = self._progress.add_task(self._label, total=self._total)
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def pumped(self, done: Pumped) -> None:
        """Show what has been ingested."""
        counts = done.counts
        rate = counts.events / done.seconds if done.seconds else 0
        text = f"{counts.events:,} events · {rate:,.0f}/s"
        text += f" · {counts.quarantined:,} quarantined" if counts.quarantined else ""
        text += f" · {counts.duplicates:,} known" if counts.duplicates else ""
        self.show(text, self._read() if self._read else None)

    def reached(self, at: int, of: int) -> None:
        """Show how far a rebuild is."""
        self.show(f"{self._label}: point {at:,} of {of:,}", at, of)

    def show(self, text: str, at: int | None = None, of: int | None = None) -> None:
        """Show a line, and how much of the total there is."""
        if self._progress is not None and self._task is not None:
            more = {} if of is None else {"total": of}
            self._progress.update(self._task, description=text, completed=at, **more)  # type: ignore[arg-type]
