"""What `runtime runs` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.cli.render import moment, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from superstep.checkpointer import QueuedRun

__all__ = ["print_runs"]


def print_runs(found: Sequence[QueuedRun], out: Console) -> None:
    """Print runs in a table, and why some of them do not start or have failed."""
    if not found:
        out.print("No runs were submitted. Submit one with: runtime submit GRAPH --input JSON")
        return
    columns = [("nr", "right"), ("thread", ""), ("graph", ""), ("tenant", ""), ("state", "whole"), ("tries", "right")]
    rows = [(run.nr, run.thread_id, run.graph, run.tenant, run.state, run.delivery or "") for run in found]
    table([*columns, ("changed", "whole")], [(*row, _changed(run)) for row, run in zip(rows, found, strict=True)], out)
    for run in found:
        if run.error:
            out.print(f"{run.nr}: {run.error}", markup=False, highlight=False, soft_wrap=True)
    for graph in sorted({run.graph for run in found if not run.has_worker}):
        out.print(f"No worker has {graph}: its runs wait.", markup=False, highlight=False, soft_wrap=True)


def _changed(run: QueuedRun) -> str:
    return moment(run.ended_at or run.started_at or run.created_at)
