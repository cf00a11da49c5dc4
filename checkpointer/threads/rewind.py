"""Going back to an earlier super-step of a run, because what it rests on has moved (isolation "flow")."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from superstep.checkpointer.database.errors import cut
from superstep.checkpointer.step.costs import Costs
from superstep.checkpointer.step.drift import Rewound
from superstep.checkpointer.step.ports import Withdrawal
from superstep.checkpointer.threads.discard import withdraw
from superstep.checkpointer.threads.ownership import stale
from superstep.checkpointer.threads.queries import provenance as queries
from superstep.runtime.faults import PlanInvalidated, RuntimeFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.threads.pending_writes import PendingWrites
    from superstep.checkpointer.threads.provenance import Entry, Provenance

__all__ = ["rewind"]


class _Run(Protocol):
    """What it needs of the run."""

    database: Database
    thread_id: str
    token: int | None
    moved: bool
    poison: RuntimeFault | None
    provenance: Provenance
    writes: PendingWrites

    async def below_stored(self) -> None:
        """Wait for everything that is being stored at the moment."""


async def rewind(run: _Run, moved: Sequence[Entry], conn: Connection) -> NoReturn:
    """Make the thread go on from the first of these super-steps: its tasks that have moved run again, and all after it.

    What its other tasks have returned is a hypothesis again, to be validated with the next commit. What models have
    answered there is kept. All of it is one transaction, on a connection that is in none.

    *What could break it.* Another run may have taken the thread: then its token is another one, and nothing is done. A
    worker that is paused half way holds the thread's row, so nobody takes the thread meanwhile. This run itself commits
    nothing more: it is poisoned first, whoever begins to write looks at that, and those who write already are waited
    for, so a domain write of a subgraph is either seen here or never committed. Results of tasks that are on their way
    are stored for the super-step that it goes back to only, and not for those that have moved.

    Raises:
        Rewound: it does.
        PlanInvalidated: domain writes have been committed in it or after it, which nothing takes back; or somebody has
            updated the state since.
        StaleRun: another run has the thread.
    """
    order = [entry.root for entry in run.provenance.in_order()]
    root = min((entry.root for entry in moved), key=order.index)
    names = sorted({entry.task.node for entry in moved})
    drifted = _to_run_again([entry for entry in moved if entry.root == root])
    schema = run.database.schema
    error = Rewound(
        f"Facts that {', '.join(names)} had read in earlier super-steps of thread {run.thread_id!r} have changed. "
        f"Nothing of the super-step that was to be committed was written; the thread goes on from the first of those "
        f"when it is run with input None (transactional(graph) does that).",
        tasks=names,
    )
    run.poison = error
    run.writes.only("", root)
    await run.below_stored()
    asked = [task_id for task_id in await queries.answered(conn, schema, run.thread_id, root) if task_id in drifted]
    what = Withdrawal("", root, drifted, asked, Costs(drifts=len(drifted)), 0.0)
    await run.writes.withdraw(what)
    try:
        async with conn.transaction(isolation="read_committed"):
            await _refuse_if_written(run, conn, root, names)
            await _go_back(run, conn, root)
            await withdraw(conn, schema, run.thread_id, run.token, what)
    except RuntimeFault as e:
        run.poison = e
        raise
    except BaseException:
        cut(conn)
        raise
    run.moved = True
    raise error


def _to_run_again(moved: Sequence[Entry]) -> dict[str, str]:
    """Tasks, id to node: those of the outermost super-step itself, and those that called the others."""
    tasks = {}
    for entry in moved:
        node = entry.ns.partition("|")[0].partition(":")[0]  # the outermost one that it ran in
        if entry.ns == "":
            tasks[entry.task.id] = entry.task.node
            tasks |= entry.effect.callers if entry.effect is not None else {}
        else:
            tasks |= dict.fromkeys(entry.callers, node)
    return tasks


async def _go_back(run: _Run, conn: Connection, root: str) -> None:
    owned = run.token is not None and await queries.rewind(conn, run.database.schema, run.thread_id, run.token, root)
    if not owned:
        raise stale(run.thread_id)


async def _refuse_if_written(run: _Run, conn: Connection, root: str, names: Sequence[str]) -> None:
    schema = run.database.schema
    if await queries.writes_since(conn, schema, run.thread_id, root):
        since = "the thread has committed domain writes since, which are not taken back"
    elif await queries.changed_since(conn, schema, run.thread_id, root):
        since = "its state was updated from outside since, which would be lost"
    else:
        return
    raise PlanInvalidated(
        f"Facts that {', '.join(names)} had read in earlier super-steps of thread {run.thread_id!r} have changed, and "
        f"{since}. Nothing of this super-step was "
        f'written. Look at the thread, and go on without isolation "flow", or from a checkpoint of your choice.',
        tasks=names,
    )
