"""The record of a super-step, as it is stored with its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.commit.step_record import CommitKind, step_record
from superstep.checkpointer.langgraph.encryption import Where, stats_column
from superstep.checkpointer.step.costs import Costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.step.read_set import Effect
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.threads.run import Run

__all__ = ["record_of"]


def record_of(
    run: Run,
    where: Where,
    step: SuperStep | None,
    effects: Sequence[Effect],
    nodes: Sequence[str],
    *,
    commit: CommitKind,
    resolved: int,
) -> str | None:
    """What the column of a checkpoint has; see `step_record` for the arguments. `step`: `None` if nothing used it."""
    if step is None:
        costs, ms = Costs(), run.namespaces[where.ns].ms_since_last()
    else:
        costs, ms, resolved = step.costs, step.elapsed_ms(), resolved + step.reductions.resolved
    record = step_record(nodes, costs, effects, commit=commit, ms=ms, key=run.digest_key, resolved=resolved)
    return stats_column(run.serde, record, where)
