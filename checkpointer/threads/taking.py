"""Who may have a thread: taking it over, and what is asked before.

The version of the graph goes along with the claim, in the one statement that it is. Only if the thread was run with
another version, and is to be gone on with, it is looked at before. Which interleavings could break that, and what stops
them:

*Whose the thread is changes after the look.* The claim requires what the look has found. Before the first look it
requires that the thread is nobody's, so for most threads that one statement is all.

*Somebody stores more of the thread between the look and the claim*, an older worker of a rolling upgrade for instance.
Both are in one READ COMMITTED transaction that locks the thread's row in a statement before. Whatever a run stores, it
stores under that lock, so what is looked at is what is taken.

*The thread is refused.* Nothing was written: who runs it is not fenced, and its status stays.

*The connection is lost.* The transaction is repeated; a first claim that has landed is taken over by the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.langgraph.codec import checkpoint_tuple
from superstep.checkpointer.langgraph.control import run_options
from superstep.checkpointer.langgraph.graph_version import subgraphs_of
from superstep.checkpointer.langgraph.ids import checkpoint_of, thread_of
from superstep.checkpointer.langgraph.standing import is_parked, missing_in
from superstep.checkpointer.threads.ownership import busy, graph_changed, stale
from superstep.checkpointer.threads.queries import running, versions, workers
from superstep.checkpointer.threads.queries.running import Taking
from superstep.checkpointer.threads.summaries import runner_of
from superstep.runtime.faults import ThreadBusy, ThreadMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any
    from uuid import UUID

    import asyncpg
    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.pregel import Pregel

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.langgraph.graph_version import GraphVersion
    from superstep.checkpointer.threads.registry import Registry

__all__ = ["needs_of", "taken"]

_MOST_CLAIMS = 100  # of a thread that changes hands each time between looking at it and taking it


async def taken(
    runs: Registry, serde: SerializerProtocol, conn: Connection, conf: Mapping[str, Any], run_id: object
) -> asyncpg.Record:
    """`token` and `head` of a thread that is this run's now.

    A call that goes on after a conflict had the thread. Somebody may have taken it since, changed or deleted it: to
    take it back would cut off a run that is under way, and tell what that one did as the outcome of this call.

    Raises:
        ThreadBusy: another process runs the thread, and is not to be fenced.
        ThreadMismatch: it belongs to another graph.
        StaleRun: the attempt before has lost it, or the queued run is another worker's by now.
        GraphChanged: it has left work unfinished that the graph has no place for.
    """
    thread_id, options = thread_of(conf), run_options(conf)
    if options.after is not None:
        owner = await running.claim_again(conn, runs.database.schema, thread_id, *options.after)
        if owner is None:
            raise stale(thread_id)
        return owner
    # A run of plain LangGraph never says that it is over: it is not said of it that it runs.
    worker = runs.worker.id if options.tells_its_end else None
    version = options.version
    asks = version is not None and (options.resumes or run_id is not None)
    known = (version.name, version.structure) if version is not None else None
    brings_input = not options.resumes if options.tells_its_end else None
    nobodys = Taking(options.graph, worker, (None,), known, not asks, brings_input, options.delivery)
    # An older checkpoint may be of an older version than the thread.
    is_latest = not asks or checkpoint_of(conf) is None
    for tried in range(_MOST_CLAIMS):
        # Most threads are nobody's, and the claim itself says so: whose a thread is, is looked at if it is somebody's.
        looks = tried > 0 or not is_latest
        found_at = None if options.take_over else await _found_at(runs, conn, thread_id) if looks else (None,)
        taking = nobodys._replace(found_at=found_at)
        owner = await running.claim(conn, runs.database.schema, thread_id, taking) if is_latest else None
        if owner is None and (looks or options.take_over):
            owner = await _not_had(runs, serde, conn, conf, run_id, taking)
        if owner is not None:
            return owner
    raise ThreadBusy(f"Thread {thread_id!r} keeps changing hands. Look at it with `runtime threads`.")


async def _not_had(
    runs: Registry, serde: SerializerProtocol, conn: Connection, conf: Mapping[str, Any], run_id: object, taking: Taking
) -> asyncpg.Record | None:
    """A claim was refused: say why, or look whether a thread of another version may be had."""
    thread_id, options = thread_of(conf), run_options(conf)
    if taking.delivery is not None and not await running.is_given_out(
        conn, runs.database.schema, thread_id, taking.delivery
    ):
        raise stale(thread_id)
    await _refuse_other_graph(runs, conn, thread_id, options.graph)
    if taking.any_version or options.version is None:
        return None
    return await _looked_at(runs, serde, conn, conf, run_id, options.version, taking)


async def _found_at(runs: Registry, conn: Connection, thread_id: str) -> tuple[UUID | None]:
    """The worker in a thread's row, if that is none, this one, or one that is gone.

    Raises:
        ThreadBusy: another process runs the thread.
    """
    row = await workers.of_thread(conn, runs.database.schema, thread_id)
    if row is not None and row["worker_id"] != runs.worker.id and (runner := runner_of(row)) is not None:
        raise busy(thread_id, runner)
    return (row["worker_id"] if row is not None else None,)


async def _refuse_other_graph(runs: Registry, conn: Connection, thread_id: str, graph: str | None) -> None:
    """Raise `ThreadMismatch` if a thread is of another graph; else it has only changed hands meanwhile."""
    row = await workers.of_thread(conn, runs.database.schema, thread_id)
    if row is not None and graph is not None and row["graph"] not in (None, graph):
        raise ThreadMismatch(
            f"Thread {thread_id!r} belongs to another graph than {graph!r}. Use a new thread id, or run "
            f"the graph it belongs to (see `runtime threads`)."
        )


async def _looked_at(
    runs: Registry,
    serde: SerializerProtocol,
    conn: Connection,
    conf: Mapping[str, Any],
    run_id: object,
    version: GraphVersion,
    taking: Taking,
) -> asyncpg.Record | None:
    """Take a thread if what it has left has a place in the graph; `None` if it has changed hands meanwhile.

    A call with input goes on with what the thread has left only if LangGraph takes it for the same run, by its id.
    """
    schema, thread_id, at = runs.database.schema, thread_of(conf), checkpoint_of(conf)
    async with conn.transaction(isolation="read_committed"):
        row = await versions.lock(conn, schema, thread_id)
        had = row["version"] if row is not None else None
        is_other = row is not None and (had, row["structure"]) != taking.version
        if had is not None and (is_other or at is not None):
            found, missing = await needs_of(conn, schema, serde, version.graph, thread_id, at)
            goes_on = found is not None and (not taking.brings_input or found.metadata.get("run_id") == run_id)
            refused = version.contradicts(had) and at is None
            if found is not None and goes_on and is_parked(found.checkpoint, version.graph) and (missing or refused):
                raise graph_changed(thread_id, had, version.name, missing)
        return await running.claim(conn, schema, thread_id, taking._replace(any_version=True))


async def needs_of(
    conn: Connection,
    schema: str,
    serde: SerializerProtocol,
    graph: Pregel[Any, Any, Any, Any],
    thread_id: str,
    checkpoint_id: str | None,
) -> tuple[CheckpointTuple | None, list[str]]:
    """A checkpoint, by default the latest, and what it and the subgraphs under way need that a graph does not have."""
    row = await running.checkpoint(conn, schema, thread_id, "", checkpoint_id)
    if row is None:
        return None, []
    found = checkpoint_tuple(serde, dict(row))
    missing = missing_in(graph, found)
    for each in await versions.nested(conn, schema, thread_id, row["checkpoint_id"]):
        inner = _graph_at(graph, each["ns"])
        if inner is not None:
            stands = checkpoint_tuple(serde, dict(each))
            if is_parked(stands.checkpoint, inner):
                missing += [f"{what} (in subgraph {each['ns']!r})" for what in missing_in(inner, stands)]
    return found, missing


def _graph_at(graph: Pregel[Any, Any, Any, Any], ns: str) -> Pregel[Any, Any, Any, Any] | None:
    """The subgraph of a namespace; `None` if there is none to be seen, or several that it may be."""
    for part in ns.split("|"):
        if part.isdecimal():  # the second call of a graph in one node, and so on
            continue
        inside = subgraphs_of(graph, part.partition(":")[0])
        if len(inside) != 1:
            return None
        (graph,) = inside
    return graph
