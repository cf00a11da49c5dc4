"""Taking back what the latest input has done to a thread, while a run is at it.

All of it is one READ COMMITTED transaction. Which interleavings could break it, and what stops them:

*The run commits more meanwhile.* The thread's row is locked in the first statement, as every writer of a run locks it.
What the run was storing before is seen, since each statement takes a new snapshot; what it stores later finds no row
with its token: deleting checkpoints fences it.

*The run ends meanwhile.* Then the row says that nobody runs the thread: what it has done is done, and stays.

*It has committed domain writes.* They cannot be taken back, and a state that does not know of them must not come up:
the transaction ends without having changed anything, and the run goes on.

*The connection is lost.* The transaction is repeated. If the first one has landed, nobody runs the thread any more.

*It is a run of the queue.* Its worker would find that its input is not in the thread, and enter it again, after the
input that has taken its place. So it is recorded as failed in the same transaction (`ended`).

What models have answered is deleted, what that has cost stays counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.langgraph.ids import input_task
from superstep.checkpointer.threads.queries import maintenance
from superstep.checkpointer.threads.queries import rollback as queries
from superstep.runtime.faults import RollbackRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["roll_back"]


async def roll_back(
    database: Database, thread_id: str, ended: Callable[[Connection, str, UUID], Awaitable[None]]
) -> bool:
    """Make the thread what it was before the input that is being worked on, and fence the run; whether there was one.

    Args:
        database: of the saver.
        thread_id: the thread.
        ended: told in the same transaction whose run that was: a queued one would be entered once more.

    Raises:
        RollbackRefused: domain writes have been committed since, or where the input came in is not known. The thread
            is as it was, and the run goes on.
    """

    async def work(conn: Connection) -> bool:
        async with conn.transaction(isolation="read_committed"):
            row = await queries.lock(conn, database.schema, thread_id)
            await failpoints.hit("rollback.locked")
            if row is None or row["worker_id"] is None:
                return False
            await _roll_back(conn, database.schema, thread_id, row["input_head"])
            await ended(conn, thread_id, row["worker_id"])
            return True

    return await database.autocommit(work)


async def _roll_back(conn: Connection, schema: str, thread_id: str, input_head: str | None) -> None:
    way = await queries.since_input(conn, schema, thread_id, input_head)
    first = way[-1] if way else None
    if first is not None and not first["begins"] and (input_head is None or first["parent_id"] != input_head):
        raise RollbackRefused(
            f"Where the latest input of thread {thread_id!r} came in is not known: its history does not reach back so "
            f"far. Nothing was changed, and the run goes on. Wait for it, or interrupt it."
        )
    if any(each["forks"] for each in way):
        raise RollbackRefused(
            f"The run of thread {thread_id!r} is a fork from an older checkpoint, which others may go on from too: it "
            f"has no input to take back. Nothing was changed, and the run goes on. Wait for it, or interrupt it."
        )
    doomed = await queries.with_nested(conn, schema, thread_id, [each["checkpoint_id"] for each in way])
    if writes := sum(each["writes"] for each in doomed):
        raise RollbackRefused(
            f"The run of thread {thread_id!r} has committed {writes} domain write{'s' if writes > 1 else ''} since its "
            f"input came in, which cannot be taken back. Nothing was changed, and the run goes on. Wait for it, or "
            f"interrupt it: its state stays then."
        )
    # Without any, this fences the run, and changes nothing else.
    checkpoints = [(each["ns"], each["checkpoint_id"]) for each in doomed]
    await maintenance.delete_checkpoints(conn, schema, thread_id, checkpoints, keep_costs=True)
    head = await queries.back_to(conn, schema, thread_id, input_head)
    if head is not None:
        await queries.forget_input(conn, schema, thread_id, head, input_task(head))
