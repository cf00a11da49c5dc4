"""Queueing child runs, in the transaction that commits the super-step which has spawned them.

Which interleavings could break it, and what stops them:

*The commit rolls back, is repaired, or its task drifts.* The rows of the children and of their runs, and the job that
tells workers of them, are in its transaction. What a task has staged that runs again is dropped with its attempt.

*The answer to COMMIT is lost.* The checkpoint tells whether it landed, before anything is applied again. Were it
applied again nevertheless, the identities would be the same, and the primary keys of child and run refuse a second one.

*A worker takes the child before the parent's run goes on.* It sees the row only once the commit is there; whatever the
child does then, it does after the decision.

*The child has ended before the parent waits for it.* See `children.queries.ask`.

*Two branches of the parent spawn at the same place.* As for effects: one is refused, unless the run has chosen
(`effects.emission`). A child that has failed, or was deleted, is no repetition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.children import queries
from superstep.checkpointer.children.spawned import WAKE, Place, Spawned
from superstep.checkpointer.database.errors import MISSING_TABLES
from superstep.runtime.faults import EffectRepeated, QueueMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.read_set import Staged
    from superstep.checkpointer.step.superstep import SuperStep

__all__ = ["no_queue", "spawn"]


async def spawn(conn: Connection, step: SuperStep, staged: Sequence[Staged]) -> None:
    """Put the children that a task has spawned, one statement for all, and tell the workers.

    Raises:
        EffectRepeated: one was spawned already from another branch of the thread, and the run has not chosen.
        QueueMismatch: the queue has no tables.
    """
    from superstep.checkpointer.effects.queue import Job, Queue

    database, queue = step.owner.database, Queue(step.owner.database)
    await queue.ready()
    place = Place(*staged[0].args[0])
    children = [Spawned(*each.args[1:]) for each in staged]
    put = await queries.spawn(conn, database.schema, step.owner.thread_id, place, children, step.owner.effects)
    for child, became in zip(children, put, strict=True):
        if became.state is None and became.sent is not None:
            raise EffectRepeated(
                f"{place.node!r} of thread {step.owner.thread_id!r} has come to a child run ({child.graph!r}) that was "
                f"queued already, before the thread was set back: {became.sent}. Nothing of the super-step was "
                f'committed. Run the thread again with input None and effects="keep" (that one counts, nothing is '
                f'queued) or effects="again" (it is queued once more).',
                effect=became.sent,
                topic=child.graph,
                task=place.node,
            )
    try:
        await queue.put(conn, [Job(WAKE, each.child_id.encode()) for each in put[:1] if each.state == "open"])
    except MISSING_TABLES as e:
        raise no_queue(database.schema) from e


def no_queue(schema: str) -> QueueMismatch:
    """The error of a commit that needs the tables of the queue."""
    return QueueMismatch(
        f"The tables of the queue in schema {schema!r} are missing, which effects and child runs need. Nothing of the "
        f"super-step was committed. Run `runtime db migrate` (or saver.setup()), then go on with the thread."
    )
