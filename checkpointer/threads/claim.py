"""Loading a thread: for looking at it, or for running it, which takes it over."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from langgraph.checkpoint.serde.types import RESUME

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.langgraph.codec import checkpoint_tuple, effect_at, loaded_tuple
from superstep.checkpointer.langgraph.control import run_options
from superstep.checkpointer.langgraph.encryption import Where
from superstep.checkpointer.langgraph.ids import checkpoint_of, namespace_of, thread_of
from superstep.checkpointer.langgraph.keys import (
    CHECKPOINT_MAP,
    DURABILITY,
    FORMAT_OF_TASK_IDS,
    INTERRUPT,
    NULL_TASK,
    RESUMING,
    RUNTIME,
    TASK_ID,
    by_namespace,
    run_key,
)
from superstep.checkpointer.langgraph.questions import asked_in
from superstep.checkpointer.step.costs import Costs
from superstep.checkpointer.step.read_set import Effect
from superstep.checkpointer.threads.current import paying_task
from superstep.checkpointer.threads.ownership import busy, stale
from superstep.checkpointer.threads.queries import running, workers
from superstep.checkpointer.threads.questions import NO_QUESTIONS, Questions
from superstep.checkpointer.threads.run import Run, no_barrier
from superstep.checkpointer.threads.summaries import runner_of
from superstep.checkpointer.turns import Holder
from superstep.runtime.faults import RuntimeFault, ThreadBusy, ThreadMismatch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
    from typing import Any
    from uuid import UUID

    import asyncpg
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.langgraph.keys import RunOptions
    from superstep.checkpointer.threads.registry import Registry

__all__ = ["load"]

_MOST_CLAIMS = 100  # of a thread that changes hands each time between looking at it and taking it


async def load(
    runs: Registry, serde: SerializerProtocol, config: RunnableConfig, runner: asyncio.Task[Any] | None
) -> CheckpointTuple | None:
    """A checkpoint with its pending writes. See `TransactionalSaver.aget_tuple`.

    `runner` is the asyncio task that runs the graph; `None` if a thread does.

    A subgraph with `checkpointer=True` keeps its state from call to call. When a task that calls it runs again after a
    conflict, what its call has left is gone, and the latest checkpoint is that of a call before. LangGraph would take
    it for the one to resume at, and drop the input: it is told otherwise.

    LangGraph loads each graph of a run once to go on from it. A second time, within the same invocation, it only looks:
    a run that was addressed to an older checkpoint asks whether the thread has moved past that.
    """
    conf: MutableMapping[str, Any] = config["configurable"]
    thread_id, ns = thread_of(conf), namespace_of(conf)
    key = run_key(conf)
    run = runs.find(key, thread_id) if key is not None else None
    if key is None or (run is not None and run.is_entered(ns, conf[RUNTIME])):
        row = await runs.database.autocommit(
            lambda conn: running.checkpoint(conn, runs.database.schema, thread_id, ns, checkpoint_of(conf))
        )
        return checkpoint_tuple(serde, dict(row)) if row else None
    if run is not None and ns == "" and TASK_ID not in conf:
        # A re-entry with the same key: what its last attempt left open goes. Before a connection is in hand: closing
        # waits for steps, which may wait for connections.
        await run.close()
        run = None
    if run is None and run_options(conf).tells_its_end:
        await runs.worker.enlist()
    owner, row = await runs.database.autocommit(lambda conn: _load(runs, serde, conn, conf, key, run))
    loaded, held = loaded_tuple(serde, dict(row)) if row else (None, {})
    above = {each: id_ for each, id_ in by_namespace(conf.get(CHECKPOINT_MAP, {})).items() if each != ns}
    owner.enter(ns, conf.get(TASK_ID), runner)
    owner.namespaces[ns].at_exit = conf.get(DURABILITY) == "exit"
    owner.namespaces[ns].load(loaded.checkpoint if loaded else None, conf.get(TASK_ID), conf[RUNTIME], above)
    owner.namespaces[ns].hold(held)
    if conf.get(RESUMING) and loaded is not None and _is_of_an_earlier_call(owner, loaded, above):
        conf[RESUMING] = False
    owner.namespaces[ns].open_questions(_questions(owner, loaded, row["write_paths"] or () if row else ()))
    return loaded


def _names(task_id: str, writes: Sequence[tuple[str, str, Any]]) -> list[str]:
    """The names of the questions that a task has asked."""
    return [
        each.id for each in asked_in(((channel, value) for id_, channel, value in writes if id_ == task_id), INTERRUPT)
    ]


def _is_of_an_earlier_call(run: Run, loaded: CheckpointTuple, above: Mapping[str, str]) -> bool:
    """Whether a subgraph was loaded at what a call in an earlier super-step left, and a task around it runs again."""
    made_in = by_namespace(loaded.metadata.get("parents") or {})
    tried = [step for place in above.items() if (step := run.steps.get(place)) is not None and step.costs.drifts]
    return any(made_in.get(step.ns) != step.checkpoint_id for step in tried)


def _questions(run: Run, loaded: CheckpointTuple | None, paths: Sequence[str]) -> Questions:
    """The open questions of what was loaded; its pending writes come with these paths."""
    if loaded is None or not loaded.pending_writes:
        return NO_QUESTIONS
    checkpoint = loaded.checkpoint
    pending = zip(loaded.pending_writes, paths, strict=True)
    asked = {task_id: path for (task_id, channel, _), path in pending if channel == INTERRUPT}
    writes = loaded.pending_writes
    names = {task_id: _names(task_id, writes) for task_id in asked}
    taken = {id_: len(value) for id_, channel, value in writes if channel == RESUME and id_ != NULL_TASK}
    renamed = checkpoint["v"] < FORMAT_OF_TASK_IDS
    return Questions(checkpoint["id"], asked, run.has_shown_facts, renamed, names, taken)


async def _load(
    runs: Registry,
    serde: SerializerProtocol,
    conn: Connection,
    conf: Mapping[str, Any],
    key: object,
    run: Run | None,
) -> tuple[Run, asyncpg.Record | None]:
    """The row, and the run that loads it, which owns the thread from here on.

    First the claim, then the row: no earlier owner can commit between the two. A later one can, and then the row is not
    the head that was claimed: what the later one did must not be told as the outcome of this run.
    """
    thread_id, ns = thread_of(conf), namespace_of(conf)
    claimed = run is None
    if run is None:
        run, is_new = await _claim(runs, serde, conn, key, conf)
        if is_new and ns == "":
            return run, None
    schema = runs.database.schema
    row = await running.checkpoint(conn, schema, thread_id, ns, checkpoint_of(conf))
    found = row["checkpoint_id"] if row is not None else None
    if claimed and checkpoint_of(conf) is None and run.head not in (None, found):
        raise stale(thread_id)
    if row and (row["write_tasks"] or row["tried_before"]):
        writes = zip(row["write_tasks"] or (), row["write_channels"] or (), strict=True)
        answered = {task_id for task_id, channel in writes if channel == RESUME}
        await _hypothesize(conn, run, serde, ns, row["checkpoint_id"], answered)
        step = run.steps.get((ns, row["checkpoint_id"]))
        if conf.get(DURABILITY) == "exit" and step is not None and step.rests_on_anything:
            raise no_barrier(thread_id)  # a task of this very super-step used its step, in the run that stopped here
    return run, row


async def _claim(
    runs: Registry, serde: SerializerProtocol, conn: Connection, key: object, conf: Mapping[str, Any]
) -> tuple[Run, bool]:
    """Take the thread over: raise its fencing token. The run, and whether the thread has no checkpoint yet."""
    thread_id = thread_of(conf)
    options = run_options(conf)
    owner = await _taken(runs, conn, thread_id, options)
    await failpoints.hit("run.claimed")
    run = Run(
        runs.database,
        key,
        thread_id,
        token=owner["token"],
        head=owner["head"],
        options=options,
        serde=serde,
        turns=runs.turns,
        in_flight=runs.in_flight,
        holder=Holder(within=_run_around()),
    )
    runs.register(run)
    return run, owner["is_new"]


async def _taken(runs: Registry, conn: Connection, thread_id: str, options: RunOptions) -> asyncpg.Record:
    """`token` and `head` of a thread that is this run's now.

    A call that goes on after a conflict had the thread. Somebody may have taken it since, changed or deleted it: to
    take it back would cut off a run that is under way, and tell what that one did as the outcome of this call.
    """
    if options.after is not None:
        owner = await running.claim_again(conn, runs.database.schema, thread_id, *options.after)
        if owner is None:
            raise stale(thread_id)
        return owner
    # A run of plain LangGraph never says that it is over: it is not said of it that it runs.
    worker = runs.worker.id if options.tells_its_end else None
    for _ in range(_MOST_CLAIMS):
        found_at = None if options.take_over else await _found_at(runs, conn, thread_id)
        owner = await running.claim(conn, runs.database.schema, thread_id, options.graph, worker, found_at)
        if owner is not None:
            return owner
        await _refuse_other_graph(runs, conn, thread_id, options.graph)
    raise ThreadBusy(f"Thread {thread_id!r} keeps changing hands. Look at it with `runtime threads`.")


def _run_around() -> Holder | None:
    """The run whose node starts this one here, be it of another saver: it waits for this one."""
    try:
        around = paying_task()
    except RuntimeFault:
        return None
    return around.run.holder


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


async def _hypothesize(
    conn: Connection, run: Run, serde: SerializerProtocol, ns: str, checkpoint_id: str, answered: Collection[str]
) -> None:
    """Load what the saved results of the super-step rest on, and what its earlier attempts cost."""
    rows = await running.hypotheses(conn, run.database.schema, run.thread_id, ns, checkpoint_id)
    effects = saved_effects(serde, Where(run.thread_id, ns, checkpoint_id), rows)
    costs = next((row for row in rows if row["task_id"] is None), None)
    run.hypothesize(
        ns,
        checkpoint_id,
        effects,
        Costs(**{field.name: costs[field.name] for field in fields(Costs)}) if costs else None,
        costs["asked_again"] if costs else (),
        costs["comes_first"] if costs else (),
        answered,
    )


def saved_effects(serde: SerializerProtocol, where: Where, rows: Iterable[asyncpg.Record]) -> list[Effect]:
    """What the saved results of a super-step rest on, from the rows of `running.hypotheses`."""
    return [
        Effect.load(row["task_id"], effect_at(serde, where, row["task_id"]).loads_typed((row["kind"], row["effect"])))
        for row in rows
        if row["task_id"] is not None
    ]
