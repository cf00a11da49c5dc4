"""What is told of threads, of their super-steps and of their latest run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.threads.liveness import Process, is_alive

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg

__all__ = ["PARKED", "LatestRun", "Runner", "StepRecord", "ThreadSummary", "runner_of"]

PARKED = ("interrupted", "failed", "unfinished")
"""How runs end that have left something."""


@dataclass(frozen=True, slots=True)
class Runner:
    """The process that runs a thread right now.

    Attributes:
        host: name of its machine.
        pid: its number there.
        since: when the run began, by the database's clock.
        silent: seconds since its last sign of life.
    """

    host: str
    pid: int
    since: datetime
    silent: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since.astimezone():%Y-%m-%d %H:%M:%S}"


def runner_of(row: asyncpg.Record) -> Runner | None:
    """Who runs a thread, from its row with those of its worker; `None` if nobody does, as far as can be known."""
    if row["worker_id"] is None or row["machine"] is None:
        return None
    if not is_alive(Process(row["host"], row["machine"], row["pid"], row["mark"]), row["silent"]):
        return None
    return Runner(row["host"], row["pid"], row["running_since"], row["silent"])


@dataclass(frozen=True, slots=True)
class ThreadSummary:
    """One thread.

    Attributes:
        thread_id: its id.
        graph: name of its graph, if that is known.
        status: how its last run ended; "unfinished" while one is under way, and after one that was killed; "cancelled"
            if what it had left was given up.
        error: what its last run failed with.
        steps: how many super-steps it has committed.
        created_at: when it was first loaded, by the database's clock.
        updated_at: when it last changed.
        runner: who runs it right now; `None` if nobody does, or nobody who says so: runs of plain LangGraph do not.
        version: of its graph, when that was run last; `None` for threads from before there were versions.
    """

    thread_id: str
    graph: str | None
    status: str
    error: str | None
    steps: int
    created_at: datetime
    updated_at: datetime
    runner: Runner | None = None
    version: str | None = None

    @property
    def is_parked(self) -> bool:
        """Whether its last run has not come to its end, and nobody runs it."""
        return self.runner is None and self.status in PARKED


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One committed super-step.

    Attributes:
        step: LangGraph's number of it.
        nodes: names of the nodes that ran.
        checkpoint_id: the checkpoint it committed.
        checkpoint_ns: "" for the graph itself, else the subgraph's namespace.
        attempts: how often it was tried, 1 without conflicts.
        repairs: commits that had to be repeated although no fact had changed.
        drifts: tasks that had to run again because their facts had changed.
        escalated: it took turns on facts that had moved, or that move often.
        waited_ms: milliseconds that it waited for them.
        commit: "direct" in the transaction of its reads, or "replay" in a later one that repeated them.
        reads: reads that the commit validated.
        writes: staged writes that it applied.
        prompts: named versions that its tasks used, such as "verify@3".
        guards: what guarded nodes went on from: `node`, `on` (names of channels), and `held`, whether it still did.
        resolved: conflicts that reducers have resolved, of channels and of shared values. See `superstep.reducers`.
        llm_paid: calls of language models that were answered, over all attempts.
        llm_reused: answers served again instead.
        input_tokens: of all calls.
        output_tokens: of all calls.
        usd: what they cost, as far as prices are known; 0 for offline models, `None` where none is known.
        calls: the record of each call, failed ones included, oldest first: `node`, `outcome`, `model`, `input_tokens`,
            `output_tokens`, `usd`, and what else its maker recorded: `route`, `deployment`, `tried`, `ms`, …
        ms: milliseconds from its first activity to its commit, over all attempts.
        committed_at: when, by the database's clock.
    """

    step: int
    nodes: list[str]
    checkpoint_id: str
    checkpoint_ns: str
    attempts: int
    repairs: int
    drifts: int
    escalated: bool
    waited_ms: float
    commit: str
    reads: int
    writes: int
    prompts: list[str]
    guards: list[dict[str, Any]]
    resolved: int
    llm_paid: int
    llm_reused: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    calls: list[dict[str, Any]]
    ms: float
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class LatestRun:
    """The latest run of a thread, from its input on; a resume continues the run.

    Attributes:
        thread: the thread; `None` if it has no committed checkpoint.
        steps: its committed super-steps, oldest first.
        usage: `llm_paid`, `input_tokens`, `output_tokens`, `usd`, and `offline` if no real model was called.
        asked_again: ids of tasks whose question to a human was withdrawn because its facts had moved.
    """

    thread: ThreadSummary | None
    steps: list[StepRecord]
    usage: dict[str, Any]
    asked_again: set[str]
