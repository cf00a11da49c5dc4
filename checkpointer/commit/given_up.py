"""When a commit is given up, what is said then, and what becomes of the results that were to go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.database.errors import DRIVER_ERRORS, ended_early
from superstep.checkpointer.step.drift import Drift
from superstep.checkpointer.step.read_set import Reduction
from superstep.runtime.faults import DatabaseUnavailable, RuntimeFault

if TYPE_CHECKING:
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.threads.pending_writes import Batch
    from superstep.checkpointer.threads.run import Run

__all__ = ["given_up", "store_apart", "tries"]

_REPAIRS = 12  # tries of a commit
_ON_ONE_VALUE = 60  # of one that merges into shared values: all that do meet at them, and nothing runs again for it


def tries(step: SuperStep) -> int:
    """How often its commit is tried."""
    merges = any(isinstance(staged, Reduction) for effect in step.effects() for staged in effect.staged)
    return _ON_ONE_VALUE if merges else _REPAIRS


def given_up(error: Exception, checkpoint_id: str, step: SuperStep, *, lost: bool) -> Exception:
    """What to say after the last try of a commit, which ended in this error, or with the connection `lost`."""
    thread_id = step.owner.thread_id
    if lost:
        return _unreachable(checkpoint_id, thread_id, step)
    return ended_early(error) or _contended(thread_id, step)


def _contended(thread_id: str, step: SuperStep) -> Drift:
    """Other transactions have aborted every try."""
    return Drift(
        f"Other transactions kept getting in the way of a super-step of thread {thread_id!r}: {tries(step)} "
        f"commits failed although no fact had changed. All results are kept; run the thread again with input None "
        f"(transactional(graph) does that).",
        attempts=step.costs.attempts,
    )


def _unreachable(checkpoint_id: str, thread_id: str, step: SuperStep) -> DatabaseUnavailable:
    """The connection was lost in every try, or the last of them."""
    return DatabaseUnavailable(
        f"The database could not commit checkpoint {checkpoint_id} of thread {thread_id!r} in "
        f"{tries(step)} tries (connection lost or persistent serialization failures). Nothing is half-written; "
        f"continue with `runtime resume` when the database is back."
    )


async def store_apart(run: Run, at: tuple[str, str], batch: Batch, error: BaseException) -> None:
    """The commit failed: results that were to go with it are stored by themselves, the drifted ones are not."""
    if not isinstance(error, RuntimeFault):
        batch.settle(error)
        return
    try:
        await run.database.autocommit(lambda conn: run.writes.store(conn, *at, batch.results))
    except (RuntimeFault, *DRIVER_ERRORS) as e:
        batch.settle(e)
    else:
        batch.settle()
