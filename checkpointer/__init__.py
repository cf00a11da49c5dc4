"""A LangGraph checkpointer on Postgres whose super-steps are serializable transactions.

Rooms, from the outside in; each uses only those below it:

    saver        LangGraph's interface, its synchronous half, opening and closing
    calls        answers of language models that are paid once, and what each call cost
    commit       what LangGraph says a task produced; the transaction that commits a super-step
    threads      ownership, runs, loading, pending writes; history, deleting, copying, pruning
    step         one super-step: tasks, snapshot, read log, staged writes
    collections  search by meaning
    langgraph    what LangGraph keeps private: its names, its config, its checkpoints as rows
    database     pool, leases, retries, migrations
    embedded     a PostgreSQL of one's own

What other packages use is exported here and loaded when it is first used: a command that only asks for the embedded
server does not wait for LangGraph.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superstep.checkpointer.calls.deployment_health import DeploymentAttempt, DeploymentHealth
    from superstep.checkpointer.calls.records import Spend, Spent, record_call, spent
    from superstep.checkpointer.collections.embedder import set_embedder
    from superstep.checkpointer.commit.staged_writes import MismatchedRows, SiblingConflict
    from superstep.checkpointer.embedded import EmbeddedServer
    from superstep.checkpointer.embedded import status as embedded_status
    from superstep.checkpointer.embedded import stop as stop_embedded
    from superstep.checkpointer.langgraph.call import GraphCall, graph_call
    from superstep.checkpointer.langgraph.control import AttemptControl
    from superstep.checkpointer.langgraph.keys import (
        CACHE,
        CACHED_MARK,
        INTERRUPT,
        EarlierAttempt,
        RunOptions,
        is_marked,
        is_private_channel,
    )
    from superstep.checkpointer.langgraph.place import node_of_callback
    from superstep.checkpointer.langgraph.questions import names_questions, unmasked
    from superstep.checkpointer.saver.saver import TransactionalSaver
    from superstep.checkpointer.saver.stored_threads import StoredThreads
    from superstep.checkpointer.step.step import Step, SyncStep
    from superstep.checkpointer.threads.current import current_step, refuse_blocking
    from superstep.checkpointer.threads.lease import Lease
    from superstep.checkpointer.threads.retention import Retention, Rule, Sizes, Swept
    from superstep.checkpointer.threads.summaries import LatestRun, Runner, StepRecord, ThreadSummary

_HOME = {
    "TransactionalSaver": "saver.saver",
    "StoredThreads": "saver.stored_threads",
    "current_step": "threads.current",
    "Step": "step.step",
    "SyncStep": "step.step",
    "StepRecord": "threads.summaries",
    "ThreadSummary": "threads.summaries",
    "LatestRun": "threads.summaries",
    "Retention": "threads.retention",
    "Rule": "threads.retention",
    "Sizes": "threads.retention",
    "Swept": "threads.retention",
    "Runner": "threads.summaries",
    "RunOptions": "langgraph.keys",
    "EarlierAttempt": "langgraph.keys",
    "AttemptControl": "langgraph.control",
    "GraphCall": "langgraph.call",
    "graph_call": "langgraph.call",
    "Lease": "threads.lease",
    "MismatchedRows": "commit.staged_writes",
    "SiblingConflict": "commit.staged_writes",
    "is_marked": "langgraph.keys",
    "is_private_channel": "langgraph.keys",
    "node_of_callback": "langgraph.place",
    "names_questions": "langgraph.questions",
    "unmasked": "langgraph.questions",
    "CACHE": "langgraph.keys",
    "CACHED_MARK": "langgraph.keys",
    "INTERRUPT": "langgraph.keys",
    "set_embedder": "collections.embedder",
    "refuse_blocking": "threads.current",
    "record_call": "calls.records",
    "spent": "calls.records",
    "Spend": "calls.records",
    "Spent": "calls.records",
    "DeploymentHealth": "calls.deployment_health",
    "DeploymentAttempt": "calls.deployment_health",
    "EmbeddedServer": "embedded",
    "embedded_status": "embedded:status",
    "stop_embedded": "embedded:stop",
}

__all__ = [
    "TransactionalSaver",
    "StoredThreads",
    "current_step",
    "Step",
    "SyncStep",
    "StepRecord",
    "ThreadSummary",
    "LatestRun",
    "Retention",
    "Rule",
    "Sizes",
    "Swept",
    "Runner",
    "RunOptions",
    "EarlierAttempt",
    "AttemptControl",
    "GraphCall",
    "graph_call",
    "Lease",
    "MismatchedRows",
    "SiblingConflict",
    "is_marked",
    "is_private_channel",
    "node_of_callback",
    "names_questions",
    "unmasked",
    "CACHE",
    "CACHED_MARK",
    "INTERRUPT",
    "set_embedder",
    "refuse_blocking",
    "record_call",
    "spent",
    "Spend",
    "Spent",
    "DeploymentHealth",
    "DeploymentAttempt",
    "EmbeddedServer",
    "embedded_status",
    "stop_embedded",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute or name)
