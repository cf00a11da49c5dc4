"""Loading a thread: for looking at it, or for running it, which takes it over."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from langgraph.checkpoint.serde.types import RESUME

from superstep.checkpointer.children.waiting import awaits_children_only
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
    is_output,
    run_key,
)
from superstep.checkpointer.langgraph.questions import asked_in
from superstep.checkpointer.step.costs import Costs
from superstep.checkpointer.step.read_set import Effect
from superstep.checkpointer.threads.current import paying_task
from superstep.checkpointer.threads.ownership import no_barrier, stale
from superstep.checkpointer.threads.queries import running
from superstep.checkpointer.threads.questions import NO_QUESTIONS, Questions
from superstep.checkpointer.threads.run import Run
from superstep.checkpointer.threads.taking import taken
from superstep.checkpointer.turns import Holder
from superstep.runtime.faults import ConfigError, RuntimeFault
from superstep.runtime.telemetry.switch import active

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
    from typing import Any

    import asyncpg
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.threads.registry import Registry

__all__ = ["load"]


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
    run_id = config.get("metadata", {}).get("run_id")
    owner, row = await runs.database.autocommit(lambda conn: _load(runs, serde, conn, conf, key, run, run_id))
    if ns == "":
        runs.turns.let_go(thread_id)  # kept for a super-step that is not the one to come
    loaded, held = loaded_tuple(serde, dict(row)) if row else (None, {})
    above = {each: id_ for each, id_ in by_namespace(conf.get(CHECKPOINT_MAP, {})).items() if each != ns}
    owner.enter(ns, conf.get(TASK_ID), runner)
    owner.namespaces[ns].at_exit = conf.get(DURABILITY) == "exit"
    owner.namespaces[ns].load(loaded.checkpoint if loaded else None, conf.get(TASK_ID), conf[RUNTIME], above)
    owner.namespaces[ns].hold(held)
    if conf.get(RESUMING) and loaded is not None and _is_of_an_earlier_call(owner, loaded, above):
        conf[RESUMING] = False
    owner.namespaces[ns].open_questions(_questions(owner, loaded, row["write_paths"] or () if row else ()))
    if loaded is not None and owner.provenance.is_kept:
        _hand_in(owner, ns, loaded, row["write_paths"] or () if row else ())
    return loaded


def _hand_in(run: Run, ns: str, loaded: CheckpointTuple, paths: Sequence[str]) -> None:
    """The tasks that had finished before: what they wrote to, as if they had finished in this run."""
    channels = defaultdict[tuple[str, str], set[str]](set)
    for (task_id, channel, _), path in zip(loaded.pending_writes or (), paths, strict=True):
        channels[task_id, path].add(channel)
    for (task_id, path), written in channels.items():
        if is_output(written):
            run.provenance.handed_in((ns, loaded.checkpoint["id"]), task_id, path, written)


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
    asked = {
        task_id: path
        for (task_id, channel, value), path in pending
        if channel == INTERRUPT and not awaits_children_only(asked_in([(channel, value)], INTERRUPT))
    }
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
    run_id: object,
) -> tuple[Run, asyncpg.Record | None]:
    """The row, and the run that loads it, which owns the thread from here on.

    First the claim, then the row: no earlier owner can commit between the two. A later one can, and then the row is not
    the head that was claimed: what the later one did must not be told as the outcome of this run.
    """
    thread_id, ns = thread_of(conf), namespace_of(conf)
    claimed = run is None
    if run is None:
        run, is_new = await _claim(runs, serde, conn, key, conf, run_id)
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
    runs: Registry, serde: SerializerProtocol, conn: Connection, key: object, conf: Mapping[str, Any], run_id: object
) -> tuple[Run, bool]:
    """Take the thread over: raise its fencing token. The run, and whether the thread has no checkpoint yet."""
    thread_id = thread_of(conf)
    options = run_options(conf)
    around = _run_around()
    if around is not None and around.trial_of is not None:
        raise ConfigError(
            f"A node of thread {around.trial_of!r} runs thread {thread_id!r} by itself. In a trial, which decides "
            f"again without effects, that would have effects: nothing was run."
        )
    if options.trace is None and active.telemetry is not None:
        options = replace(options, trace=active.telemetry.loose_run(thread_id, options.graph))
    owner = await taken(runs, serde, conn, conf, run_id)
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
        holder=Holder(within=around.holder if around is not None else None),
    )
    runs.register(run)
    return run, owner["is_new"]


def _run_around() -> Run | None:
    """The run whose node starts this one here, be it of another saver: it waits for this one."""
    try:
        return paying_task().run
    except RuntimeFault:
        return None


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
        _costs(costs) if costs else None,
        costs["asked_again"] if costs else (),
        costs["comes_first"] if costs else (),
        answered,
    )


def _costs(row: asyncpg.Record) -> Costs:
    values = {field.name: row[field.name] for field in fields(Costs)}
    return Costs(**{**values, "conflicts": json.loads(row["conflicts"])})


def saved_effects(serde: SerializerProtocol, where: Where, rows: Iterable[asyncpg.Record]) -> list[Effect]:
    """What the saved results of a super-step rest on, from the rows of `running.hypotheses`."""
    return [
        Effect.load(row["task_id"], effect_at(serde, where, row["task_id"]).loads_typed((row["kind"], row["effect"])))
        for row in rows
        if row["task_id"] is not None
    ]
