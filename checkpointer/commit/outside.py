"""A checkpoint that no run makes: an update of the state, a fork, a script's own put.

Which interleavings could break it, and what stops them:

*A run commits between the load and the put.* What was loaded as the latest (`threads.looking`) must still be the
latest: of the outermost graph that is the head in the thread's row, looked at under its lock; of a subgraph the
greatest id, looked at after the thread's row was locked in a statement before. If it is not, nothing is stored.
Channels that keep their writes (`DeltaChannel`) have them stored before the put, beside the checkpoint that they
change: the same is asked then, and runs are fenced then.

*A run commits after the put.* The put has given the thread another fencing token.

*Results of tasks that are taken into the state.* `update_state(None, as_node=END)` ends a super-step by hand: what
its finished tasks have returned becomes state. So what they staged is applied in the same transaction, and what they
read is validated there, as at any barrier. No run can end the same super-step meanwhile: it is fenced before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.commit.barrier import Barrier
from superstep.checkpointer.commit.queries import NewCheckpoint, fence, fence_latest, put_outside
from superstep.checkpointer.database.errors import DRIVER_ERRORS, id_too_long
from superstep.checkpointer.langgraph.encryption import Where
from superstep.checkpointer.langgraph.progress import takes_results
from superstep.checkpointer.threads.claim import saved_effects
from superstep.checkpointer.threads.ownership import moved_on
from superstep.checkpointer.threads.queries import running
from superstep.checkpointer.threads.queries.maintenance import lock_threads
from superstep.checkpointer.threads.run import Run

if TYPE_CHECKING:
    from langgraph.checkpoint.base import CheckpointMetadata
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.read_set import Effect

__all__ = ["before_writes", "put_from_outside"]


async def put_from_outside(
    database: Database, serde: SerializerProtocol, new: NewCheckpoint, metadata: CheckpointMetadata, *, latest: bool
) -> None:
    """Store a checkpoint, and fence every run of its thread.

    Args:
        database: where the thread is.
        serde: the saver's serializer.
        new: the checkpoint.
        metadata: what LangGraph says of it.
        latest: it was made of the latest checkpoint, and must continue that.

    Raises:
        StaleRun: it must continue the latest checkpoint, and there is a later one. Nothing was stored.
        StepConflict: results that it takes into the state rest on facts that have moved. Nothing was stored.
        StagedWriteFailed: the database rejected a write that came with such a result. Nothing was stored.
    """
    effects: list[Effect] = []
    if new.parent_id is not None and takes_results(new.checkpoint_id, metadata):
        effects = await _effects(database, serde, new, new.parent_id)
    if effects:
        run = Run.outside(database, new.thread_id, serde)
        run.step(new.ns, new.parent_id or "").load(effects, None)
        nodes = sorted({effect.node for effect in effects})
        barrier = Barrier(run, new.ns, new.checkpoint_id, new.parent_id, new.row, True, nodes, continues=latest)
        await database.autocommit(lambda conn: fence(conn, database.schema, new.thread_id))
        await barrier.commit()
        return

    async def put(conn: Connection) -> bool:
        if new.ns == "" or not latest:
            return await put_outside(conn, database.schema, new, None, continues=latest)
        async with conn.transaction(isolation="read_committed"):
            await lock_threads(conn, database.schema, [new.thread_id])
            return await put_outside(conn, database.schema, new, None, continues=True)

    try:
        async with database.connections.borrow() as conn:
            if not await put(conn):
                raise moved_on(new.thread_id, new.parent_id)
    except DRIVER_ERRORS as e:
        if (too_long := id_too_long(e)) is not None:
            raise too_long from e
        raise


async def before_writes(database: Database, thread_id: str, ns: str, checkpoint_id: str) -> None:
    """No run stores pending writes of the latest checkpoint: fence those that may be going on from it.

    Raises:
        StaleRun: it is not the latest any more.
    """

    async def ask(conn: Connection) -> bool:
        return await fence_latest(conn, database.schema, thread_id, ns, checkpoint_id)

    if not await database.autocommit(ask):
        raise moved_on(thread_id, checkpoint_id)


async def _effects(database: Database, serde: SerializerProtocol, new: NewCheckpoint, parent_id: str) -> list[Effect]:
    rows = await database.autocommit(
        lambda conn: running.hypotheses(conn, database.schema, new.thread_id, new.ns, parent_id)
    )
    found = saved_effects(serde, Where(new.thread_id, new.ns, parent_id), rows)
    return [effect for effect in found if not (effect.asked or effect.calls or effect.empty)]
