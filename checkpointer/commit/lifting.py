"""Lifting a parked thread to another version of its graph: its state goes through a function of the author's, once.

What comes out is stored as a checkpoint on top of the one that it was made of, with the new version, in one
transaction. Tasks get other ids by that: questions are asked again, and what had finished in the super-step under way
runs again. So a thread whose subgraphs have committed domain writes in that super-step is not lifted: they would be
done twice.

Which interleavings could break it, and what stops them:

*Somebody runs, changes or lifts the thread while the function works.* The transaction locks the thread's row, and
stores nothing unless the fencing token is the one that was there before the thread was loaded. Whoever claims or
changes a thread gives it another one. A run that only goes on, and commits, has moved the head: the checkpoint must
continue it.

*A run that had the thread all the while stores a result.* It would be one of a super-step that is over: the checkpoint
fences it, and its saved results stay with a checkpoint that nothing goes on from.

*The function fails, or returns what the graph cannot take.* Nothing was written yet.

*The connection is lost.* The transaction is repeated. If the first one has landed, the token is another: nothing is
stored, and the caller finds the thread lifted.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.checkpointer.children import queries as children
from superstep.checkpointer.commit.queries import NewCheckpoint, put_outside
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.langgraph.codec import checkpoint_row, checkpoint_tuple
from superstep.checkpointer.langgraph.encryption import Where
from superstep.checkpointer.langgraph.lifted import delta_channels, lifted, rebuilt, state_in, what_it_made
from superstep.checkpointer.langgraph.standing import missing_in
from superstep.checkpointer.threads.delta_history import delta_history
from superstep.checkpointer.threads.digest_key import digest_key
from superstep.checkpointer.threads.ownership import busy, graph_changed
from superstep.checkpointer.threads.queries import running, versions, workers
from superstep.checkpointer.threads.summaries import runner_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.langgraph.graph_version import GraphVersion

__all__ = ["Lift", "lift"]


class Lift(NamedTuple):
    """What is to be lifted, and by whom.

    Attributes:
        thread_id: the thread.
        version: of the graph as it is now.
        migrate: makes the state of a version one of this version: see docs/parked-threads.md.
        worker: who lifts it.
        take_over: also from a run that another process has under way.
    """

    thread_id: str
    version: GraphVersion
    migrate: Callable[[dict[str, Any], str], Any]
    worker: UUID
    take_over: bool


async def lift(database: Database, serde: SerializerProtocol, what: Lift) -> None:
    """Lift a thread, unless somebody else has done something with it meanwhile: claim it again to see.

    Raises:
        GraphChanged: it cannot be lifted, or the function has failed. The thread is as it was.
        ThreadBusy: another process runs it, and is not to be fenced.
    """
    row = await database.autocommit(lambda conn: workers.of_thread(conn, database.schema, what.thread_id))
    if row is None or row["head"] is None or row["version"] is None:
        return
    if not what.take_over and row["worker_id"] != what.worker and (runner := runner_of(row)) is not None:
        raise busy(what.thread_id, runner)
    if (row["version"], row["structure"]) == (what.version.name, what.version.structure):
        return
    new = await _made(database, serde, what, row["version"], row["head"])
    await failpoints.hit("lift.made")

    async def store(conn: Connection) -> None:
        async with conn.transaction(isolation="read_committed"):
            now = await versions.lock(conn, database.schema, what.thread_id)
            if now is None or now["token"] != row["token"]:
                return
            if await versions.nested_writes(conn, database.schema, what.thread_id, row["head"]):
                why = "Subgraphs of the super-step under way have committed writes, which it would do again."
                raise graph_changed(what.thread_id, row["version"], what.version.name, (), why)
            if await put_outside(conn, database.schema, new, None, continues=True):
                name, structure = what.version.name, what.version.structure
                await versions.stamp(conn, database.schema, what.thread_id, name, structure)
                await children.lifted(conn, database.schema, what.thread_id, row["head"], new.checkpoint_id)

    await database.autocommit(store)


async def _made(database: Database, serde: SerializerProtocol, what: Lift, had: str, head: str) -> NewCheckpoint:
    """The checkpoint that the function makes of the head."""
    schema, graph = database.schema, what.version.graph
    row = await database.autocommit(lambda conn: running.checkpoint(conn, schema, what.thread_id, "", head))
    if row is None:
        raise graph_changed(what.thread_id, had, what.version.name, (), "Its latest checkpoint is gone.")
    found = checkpoint_tuple(serde, dict(row))
    histories = await delta_history(database, serde, found.config, delta_channels(found))
    try:
        values = {channel: rebuilt(graph, channel, each) for channel, each in histories.items()}
        made = what.migrate(state_in(found, values), had)
        state, goto = what_it_made(await made if inspect.isawaitable(made) else made, graph)
    except Exception as error:
        why = f"Its migrate() failed: {type(error).__name__}: {error}."
        raise graph_changed(what.thread_id, had, what.version.name, (), why) from error
    checkpoint, metadata, new_versions = lifted(found, state, goto, graph, had)
    after = found._replace(checkpoint=checkpoint, pending_writes=[])
    if missing := missing_in(graph, after):
        raise graph_changed(
            what.thread_id, had, what.version.name, [f"{each} also after migrate()" for each in missing]
        )
    where = Where(what.thread_id, "", checkpoint["id"])
    key = await digest_key(database, serde)
    stored, _ = checkpoint_row(serde, checkpoint, metadata, new_versions, where, key)
    return NewCheckpoint(what.thread_id, "", checkpoint["id"], head, stored)
