"""Loading a thread: for looking at it, or for running it, which takes it over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.langgraph.codec import checkpoint_tuple
from superstep.checkpointer.step.read_set import Effect
from superstep.checkpointer.step.task import Costs
from superstep.checkpointer.threads.run import Run, RunOptions, control_of
from superstep.runtime.faults import ConfigError, ThreadMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Engine
    from superstep.checkpointer.database.leases import Connection

__all__ = ["load"]


async def load(engine: Engine, serde: SerializerProtocol, config: RunnableConfig) -> CheckpointTuple | None:
    """A checkpoint with its pending writes. See `TransactionalSaver.aget_tuple`."""
    ns = config["configurable"].get("checkpoint_ns", "")
    run, row = await engine.autocommit(lambda conn: _load(engine, serde, conn, config))
    loaded = checkpoint_tuple(serde, dict(row)) if row else None
    if run is not None:
        caller = config["configurable"].get("__pregel_task_id")
        run.loaded(ns, loaded.checkpoint if loaded else None, caller)
    return loaded


async def _load(
    engine: Engine, serde: SerializerProtocol, conn: Connection, config: RunnableConfig
) -> tuple[Run | None, Any]:
    """The row, and the run that loads it, which owns the thread from here on.

    First the claim, then the row: no earlier owner can commit between the two, so the row is the thread's head.
    """
    conf = config["configurable"]
    thread_id, ns = str(conf["thread_id"]), conf.get("checkpoint_ns", "")
    control = control_of(config)
    run = None
    if control is not None:
        run = engine.find(control, thread_id)
        if run is None or (ns == "" and "__pregel_task_id" not in conf):
            run = await _claim(engine, serde, conn, control, conf)
    if checkpoint_id := conf.get("checkpoint_id"):
        row = await conn.fetchrow(engine.sql["get_one"], thread_id, ns, checkpoint_id)
    else:
        row = await conn.fetchrow(engine.sql["get_latest"], thread_id, ns)
    if run is not None and row and (row["write_tasks"] or row["tried_before"]):
        await _hypothesize(conn, run, ns, row["checkpoint_id"])
    return run, row


async def _claim(
    engine: Engine, serde: SerializerProtocol, conn: Connection, control: object, conf: Mapping[str, Any]
) -> Run:
    """Take the thread over: raise its fencing token."""
    thread_id = str(conf["thread_id"])
    if conf.get("__pregel_durability") == "exit":
        raise ConfigError(
            'durability="exit" saves nothing between super-steps, so there is no barrier at which reads could be '
            'validated and writes applied. Use durability="sync" (or "async").'
        )
    options = conf.get(RunOptions.KEY, RunOptions())
    owner = await conn.fetchrow(engine.sql["claim"], thread_id, options.graph)
    if owner is None:
        raise ThreadMismatch(
            f"Thread {thread_id!r} belongs to another graph than {options.graph!r}. Use a new thread id, or run "
            f"the graph it belongs to (see `runtime threads`)."
        )
    await failpoints.hit("run.claimed")
    run = Run(
        engine,
        control,
        thread_id,
        token=owner["token"],
        head=owner["head"],
        options=options,
        serde=serde,
    )
    if (before := engine.find(control, thread_id)) is not None:
        await before.close()  # a re-entry with the same control: what its last attempt left open
    engine.register(run)
    return run


async def _hypothesize(conn: Connection, run: Run, ns: str, checkpoint_id: str) -> None:
    """Load what the saved results of the super-step rest on, and what its earlier attempts cost."""
    rows = await conn.fetch(run.engine.sql["hypotheses"], run.thread_id, ns, checkpoint_id)
    effects = [
        Effect.load(row["task_id"], run.serde.loads_typed((row["kind"], row["effect"])))
        for row in rows
        if row["task_id"] is not None
    ]
    costs = next((row for row in rows if row["task_id"] is None), None)
    run.hypothesize(
        ns,
        checkpoint_id,
        effects,
        Costs(*(costs[k] for k in ("attempts", "repairs", "drifts", "llm_reused", "ms"))) if costs else None,
        costs["asked_again"] if costs else (),
    )
