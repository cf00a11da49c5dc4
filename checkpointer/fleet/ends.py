"""What the end of a child's run does to its parent, in the transaction that records it.

Which interleavings could break it, and what stops them:

*The worker dies before it has recorded the end, or in the middle of it.* The end, what the child has put out, and the
run that has the parent go on are one transaction. If it is not there, another worker is given the child, finds that
nothing is left to do, and records the same.

*Two workers record the end.* Only the one with the latest delivery changes the row of the run, and goes on from there.

*The parent stops to wait for the child in this very moment.* Both lock the row of the child. If the parent is first,
its question is seen by the statement that wakes (READ COMMITTED, after the lock). If the end is first, the parent's
transaction sees it after the lock, and has itself go on (`children.queries.ask`).

*The parent waits for nothing, has gone elsewhere, was set back or deleted.* Then no question is open that waits for the
child, and nobody is woken. What the child has ended with is kept with it, and the parent finds it when it asks.

*The parent is woken for nothing*, since somebody had run it on meanwhile. Its question is not open any more when the
run is given out, and the run ends at once (`workers.worker`).

*The child asks a human.* It has not ended. Who answers decides how it goes on: a worker (an answer that was sent),
whose run then ends the child; or a program by itself, which says nothing of children. Workers look for threads of
asking children that have completed that way, and put the child's run back, whose end is then recorded as any other.

*Nobody will answer what the child asks.* Its thread was entered with other input, by another parent's child for
instance, or given up, or what it was entered with is taken back. What the thread comes to is then not what this child
has come to: it has failed. Workers look for the first two; taking back says so itself (`stands_again`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from superstep.checkpointer.children import queries
from superstep.checkpointer.children.spawned import OUTCOME, WAKE
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.effects.queue import Job, Queue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.fleet.runs import Claimed

__all__ = ["child_ends", "is_about_others", "settle", "stands_again"]


class Over(Protocol):
    """A run that is over: its id, its thread, and why it had gone on with one that waited (`Claimed.answer`)."""

    @property
    def run_id(self) -> UUID: ...

    @property
    def thread_id(self) -> str: ...

    @property
    def answer(self) -> str | None: ...


def is_about_others(run: Claimed) -> bool:
    """Whether a child may end with this run: it is one, or it goes on with a thread that had stopped."""
    return run.parent is not None or run.answer is not None


async def child_ends(
    conn: Connection, database: Database, serde: SerializerProtocol | None, run: Over, state: str, outcome: Any
) -> None:
    """Record the end of the children that end with a run, and wake who waits for them. In its transaction."""
    schema = database.schema
    if state == "interrupted":
        await queries.asks(conn, schema, run.run_id)
        return
    children = await queries.ended(conn, schema, run.run_id, run.thread_id, answered=run.answer is not None)
    await settle(conn, database, serde, children, state, outcome)


async def stands_again(
    conn: Connection, database: Database, serde: SerializerProtocol | None, thread_id: str, why: str
) -> None:
    """The latest input of a thread is taken back, in this transaction: children end with it, and questions are open."""
    schema = database.schema
    # Those that had asked: no run says that they have ended.
    await settle(conn, database, serde, await queries.taken_back(conn, schema, thread_id), "failed", why)
    ended = await queries.stand_again(conn, schema, thread_id)
    if ended and await queries.wake(conn, schema, ended):
        await Queue(database).put(conn, [Job(WAKE, b"")])


async def settle(
    conn: Connection,
    database: Database,
    serde: SerializerProtocol | None,
    children: Sequence[str],
    state: str,
    outcome: Any,
) -> None:
    """Record that these children have ended, and wake who waits for them. In a READ COMMITTED transaction."""
    from superstep.checkpointer.langgraph.encryption import at

    if not children or serde is None:
        return
    schema = database.schema
    stored = [queries.Ended(each, *at(serde, OUTCOME, each).dumps_typed(outcome)) for each in children]
    await queries.settle(conn, schema, state, stored)
    await failpoints.hit("child.settled")
    if await queries.wake(conn, schema, children):
        await Queue(database).put(conn, [Job(WAKE, b"")])
    await failpoints.hit("child.woken")
