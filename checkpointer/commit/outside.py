"""A checkpoint that no run makes: an update of the state, a fork, a script's own put.

Which interleavings could break it, and what stops them:

*A run commits between the load and the put.* What was loaded as the latest (`threads.looking`) must still be the
latest: of the outermost graph that is the head in the thread's row, looked at under its lock; of a subgraph the
greatest id, looked at after the thread's row was locked in a statement before. If it is not, nothing is stored.
Channels that keep their writes (`DeltaChannel`) have them stored before the put, beside the checkpoint that they
change: the same is asked then, and runs are fenced then.

*A run commits after the put.* The put has given the thread another fencing token.

*The connection is lost.* A put that must continue the latest checkpoint is repeated, as a commit is. If the first one
has landed, the second finds the thread moved on, and the look-up that follows finds its own checkpoint. If the first
one lands after the second, it stores nothing: what it continues is not the latest any more. A fork asks no such thing,
and could land after a run has gone on from it: it is not repeated, and the caller is told that what happened is not
known.

*Results of tasks that are taken into the state.* `update_state(None, as_node=END)` ends a super-step by hand: what
its finished tasks have returned becomes state. So what they staged is applied in the same transaction, and what they
read is validated there, as at any barrier. No run can end the same super-step meanwhile: it is fenced before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.commit.barrier import Barrier
from superstep.checkpointer.commit.queries import NewCheckpoint, checkpoint_exists, fence, fence_latest, put_outside
from superstep.checkpointer.database.errors import DRIVER_ERRORS, id_too_long, is_lost
from superstep.checkpointer.langgraph.encryption import Where
from superstep.checkpointer.langgraph.progress import takes_results
from superstep.checkpointer.threads.claim import saved_effects
from superstep.checkpointer.threads.ownership import moved_on
from superstep.checkpointer.threads.queries import running
from superstep.checkpointer.threads.queries.maintenance import lock_threads
from superstep.checkpointer.threads.run import Run
from superstep.runtime.faults import DatabaseUnavailable

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
        DatabaseUnavailable: the database did not come back, or the connection was lost while a fork was stored.
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

    stored = await (_continue(database, new) if latest else _fork(database, new))
    if not stored:
        raise moved_on(new.thread_id, new.parent_id)


async def _continue(database: Database, new: NewCheckpoint) -> bool:
    tries = 0

    async def put(conn: Connection) -> bool:
        nonlocal tries
        tries += 1
        if new.ns == "":
            stored = await put_outside(conn, database.schema, new, None, continues=True)
        else:
            async with conn.transaction(isolation="read_committed"):
                await lock_threads(conn, database.schema, [new.thread_id])
                stored = await put_outside(conn, database.schema, new, None, continues=True)
        return stored or (tries > 1 and await checkpoint_exists(conn, database.schema, new))

    return await database.autocommit(put)


async def _fork(database: Database, new: NewCheckpoint) -> bool:
    try:
        async with database.connections.borrow() as conn:
            return await put_outside(conn, database.schema, new, None, continues=False)
    except DRIVER_ERRORS as e:
        if (too_long := id_too_long(e)) is not None:
            raise too_long from e
        if is_lost(e):
            raise DatabaseUnavailable(
                f"The connection was lost while checkpoint {new.checkpoint_id} of thread {new.thread_id!r} was stored. "
                f"Whether it is there is not known: look at the thread's history, and do it again if it is not."
            ) from e
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
