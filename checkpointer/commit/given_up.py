"""When a commit is given up that no fact stands in the way of, and what is said then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.step.drift import Drift
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from superstep.checkpointer.step.superstep import SuperStep

__all__ = ["REPAIRS", "contended", "unreachable"]

REPAIRS = 12  # tries of a commit


def contended(thread_id: str, step: SuperStep) -> Drift:
    """Other transactions have aborted every try."""
    return Drift(
        f"Other transactions kept getting in the way of a super-step of thread {thread_id!r}: {REPAIRS} "
        f"commits failed although no fact had changed. All results are kept; run the thread again with input None "
        f"(transactional(graph) does that).",
        attempts=step.costs.attempts,
    )


def unreachable(checkpoint_id: str, thread_id: str) -> DatabaseUnavailable:
    """The connection was lost in every try, or the last of them."""
    return DatabaseUnavailable(
        f"The database could not commit checkpoint {checkpoint_id} of thread {thread_id!r} in "
        f"{REPAIRS} tries (connection lost or persistent serialization failures). Nothing is half-written; "
        f"continue with `runtime resume` when the database is back."
    )
