"""What `runtime import` shows while it works, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.cli.render import console

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.progress import Progress, TaskID

    from superstep.checkpointer import ImportOutcome

__all__ = ["ImportProgress"]


class ImportProgress:
    """A bar of threads, with the checkpoints so far. Nothing without a terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._checkpoints = 0

    def __enter__(self) -> Self:
        out = console(stderr=True)
        if out.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=out, transient=True)
            self._task = self._progress.add_task("threads", total=None)
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def counted(self, threads: int) -> None:
        """Say how many threads there are."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=threads)

    def told(self, outcome: ImportOutcome) -> None:
        """Show that a thread is done."""
        self._checkpoints += outcome.stored.checkpoints
        if self._progress is not None and self._task is not None:
            text = f"threads · {self._checkpoints:,} checkpoints"
            self._progress.update(self._task, description=text, advance=1)
