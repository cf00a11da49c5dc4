"""Taking back, durably, what drifted tasks have left in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.database.errors import cut
from superstep.checkpointer.threads.ownership import stale
from superstep.checkpointer.threads.queries import running
from superstep.runtime.faults import StaleRun

if TYPE_CHECKING:
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.ports import Withdrawal

__all__ = ["discard", "withdraw"]


async def discard(conn: Connection, schema: str, thread_id: str, token: int | None, what: Withdrawal) -> None:
    """Take back the results of drifted tasks; of those that asked a human, the answers as well.

    Also forgets the checkpoints of subgraphs that a drifted task ran, so that it runs them again on the new facts,
    unless those have committed domain writes: these stay, or running them again would write twice. What models have
    answered there is kept for the task: what it asks again in the same way is not paid again.

    Takes a connection that is in no transaction, and does all of it in one. If what a task had read were taken back
    without what its subgraphs have stored on that, they would go on from there in a run that knows no better. A worker
    that is paused half way holds the thread's row, so that it forgets nothing of a run that comes after it.

    Raises:
        StaleRun: the run does not own the thread.
    """
    try:
        async with conn.transaction(isolation="read_committed"):
            await withdraw(conn, schema, thread_id, token, what)
    except StaleRun:
        raise
    except BaseException:
        cut(conn)  # failed or cancelled half way, perhaps before BEGIN was answered: nobody may go on in there
        raise


async def withdraw(conn: Connection, schema: str, thread_id: str, token: int | None, what: Withdrawal) -> None:
    """As `discard`, in the transaction that the connection is in."""
    if not await running.discard(conn, schema, thread_id, token, what):
        raise stale(thread_id)
    for task_id, node in what.tasks.items():
        nested = running.Nested.of(what.ns, what.checkpoint_id, task_id, node)
        if not await running.nested_domain_writes(conn, schema, thread_id, nested):
            await running.forget_nested(conn, schema, thread_id, nested, task_id)
