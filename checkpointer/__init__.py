"""A LangGraph checkpointer on Postgres whose super-steps are serializable transactions.

Rooms, from the outside in; each uses only those below it:

    imports      threads of LangGraph's own Postgres saver, taken over
    saver        LangGraph's interface, its synchronous half, opening and closing
    fleet        runs that wait for a worker, and what workers do with them
    calls        answers of language models that are paid once, and what each call cost
    memory       what threads share for long: LangGraph's store
    commit       what LangGraph says a task produced; the transaction that commits a super-step
    threads      ownership, runs, loading, pending writes; history, deleting, copying, pruning
    step         one super-step: tasks, snapshot, read log, staged writes
    collections  texts with embeddings, search by meaning
    effects      the outbox, handlers, and the port to the queue
    coherence    the measures of coherence: what is kept for them, their formulas, reports
    derived      aggregates over events that are ingested exactly once
    shared       reducers; state that all threads share
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
    from superstep.checkpointer.children.waiting import awaited as awaited_child
    from superstep.checkpointer.coherence.again import Decided, have_moved
    from superstep.checkpointer.coherence.measures import Coherence
    from superstep.checkpointer.coherence.report import Metrics
    from superstep.checkpointer.collections.catalog import Collections
    from superstep.checkpointer.collections.collection import Collection
    from superstep.checkpointer.collections.documents import Document, content_id
    from superstep.checkpointer.collections.embedder import set_embedder
    from superstep.checkpointer.collections.langchain import CollectionVectorStore
    from superstep.checkpointer.collections.vectors import dimensions_of
    from superstep.checkpointer.commit.staged_writes import MismatchedRows, SiblingConflict
    from superstep.checkpointer.derived.aggregates import Aggregate
    from superstep.checkpointer.derived.batch import Counts, Outcome
    from superstep.checkpointer.derived.files import STDIN, LineSource
    from superstep.checkpointer.derived.ingestion import (
        AggregateStatus,
        Ingestion,
        LateEvent,
        PartitionStatus,
        Quarantined,
    )
    from superstep.checkpointer.derived.pump import BATCH, Pumped, pump
    from superstep.checkpointer.derived.records import Format, Record
    from superstep.checkpointer.derived.replica import Replica, ReplicaSource, ReplicaStatus
    from superstep.checkpointer.derived.signals import IngestionPoint, Signal
    from superstep.checkpointer.derived.sources import EventSource
    from superstep.checkpointer.effects.handlers import Effect, GiveUp
    from superstep.checkpointer.effects.handlers import handler as effect_handler
    from superstep.checkpointer.effects.outbox import Outbox, OutboxEffect
    from superstep.checkpointer.effects.queue import Again, Job, Queue
    from superstep.checkpointer.effects.webhook import verify_webhook, webhook
    from superstep.checkpointer.embedded import EmbeddedServer
    from superstep.checkpointer.embedded import status as embedded_status
    from superstep.checkpointer.embedded import stop as stop_embedded
    from superstep.checkpointer.fleet.fleet import Fleet
    from superstep.checkpointer.fleet.runs import Claimed, End, Exchange, Limit, Order, QueuedRun, Request
    from superstep.checkpointer.fleet.schedules import Schedule, Schedules
    from superstep.checkpointer.fleet.sending import asend
    from superstep.checkpointer.imports.importing import import_threads
    from superstep.checkpointer.imports.rows import Imported
    from superstep.checkpointer.imports.rows import Outcome as ImportOutcome
    from superstep.checkpointer.langgraph.call import GraphCall, graph_call
    from superstep.checkpointer.langgraph.control import AttemptControl, usable_effects
    from superstep.checkpointer.langgraph.going_back import go_only_to
    from superstep.checkpointer.langgraph.graph_version import GraphVersion, graph_version
    from superstep.checkpointer.langgraph.keys import (
        CACHE,
        CACHED_MARK,
        INTERRUPT,
        Delivery,
        EarlierAttempt,
        RunOptions,
        from_latest,
        is_marked,
        is_private_channel,
    )
    from superstep.checkpointer.langgraph.place import node_of_callback
    from superstep.checkpointer.langgraph.questions import names_questions, unmasked
    from superstep.checkpointer.memory.rows import Memory, MemoryVersion, Origin
    from superstep.checkpointer.memory.store import MemoryStore
    from superstep.checkpointer.saver.saver import TransactionalSaver
    from superstep.checkpointer.saver.stored_threads import StoredThreads
    from superstep.checkpointer.shared.channel import conflicts_in, plain
    from superstep.checkpointer.shared.choose import (
        Swap,
        append,
        compare_and_set,
        last_writer,
        maximum,
        merge,
        minimum,
        reject,
        swap,
    )
    from superstep.checkpointer.shared.declared import Shared
    from superstep.checkpointer.shared.declared import shared as declare_shared
    from superstep.checkpointer.shared.folding import ABSENT, Conflict, Merged
    from superstep.checkpointer.shared.outside import SharedUpdate
    from superstep.checkpointer.step.drift import Rewound
    from superstep.checkpointer.step.step import Step, SyncStep
    from superstep.checkpointer.threads.activity import Activity, RunningThread
    from superstep.checkpointer.threads.current import current_step, refuse_blocking
    from superstep.checkpointer.threads.guards import guarded_facts_stand, guarded_facts_stand_sync
    from superstep.checkpointer.threads.lease import Lease
    from superstep.checkpointer.threads.listings import Chosen
    from superstep.checkpointer.threads.provenance import declare_guarded
    from superstep.checkpointer.threads.retention import Retention, Rule, Sizes, Swept
    from superstep.checkpointer.threads.summaries import LatestRun, Runner, StepRecord, ThreadSummary
    from superstep.checkpointer.turns.lines import Turn

_HOME = {
    "TransactionalSaver": "saver.saver",
    "StoredThreads": "saver.stored_threads",
    "current_step": "threads.current",
    "Step": "step.step",
    "SyncStep": "step.step",
    "StepRecord": "threads.summaries",
    "ThreadSummary": "threads.summaries",
    "Activity": "threads.activity",
    "RunningThread": "threads.activity",
    "LatestRun": "threads.summaries",
    "Metrics": "coherence.report",
    "Coherence": "coherence.measures",
    "Decided": "coherence.again",
    "have_moved": "coherence.again",
    "Retention": "threads.retention",
    "Rule": "threads.retention",
    "Sizes": "threads.retention",
    "Swept": "threads.retention",
    "Runner": "threads.summaries",
    "RunOptions": "langgraph.keys",
    "GraphVersion": "langgraph.graph_version",
    "graph_version": "langgraph.graph_version",
    "EarlierAttempt": "langgraph.keys",
    "Delivery": "langgraph.keys",
    "Fleet": "fleet.fleet",
    "Claimed": "fleet.runs",
    "End": "fleet.runs",
    "Exchange": "fleet.runs",
    "Limit": "fleet.runs",
    "Order": "fleet.runs",
    "QueuedRun": "fleet.runs",
    "Request": "fleet.runs",
    "Schedule": "fleet.schedules",
    "Schedules": "fleet.schedules",
    "asend": "fleet.sending",
    "awaited_child": "children.waiting:awaited",
    "AttemptControl": "langgraph.control",
    "usable_effects": "langgraph.control",
    "GraphCall": "langgraph.call",
    "graph_call": "langgraph.call",
    "import_threads": "imports.importing",
    "Imported": "imports.rows",
    "ImportOutcome": "imports.rows:Outcome",
    "Lease": "threads.lease",
    "Chosen": "threads.listings",
    "Turn": "turns.lines",
    "MemoryStore": "memory.store",
    "Memory": "memory.rows",
    "MemoryVersion": "memory.rows",
    "Origin": "memory.rows",
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
    "Rewound": "step.drift",
    "declare_guarded": "threads.provenance",
    "guarded_facts_stand": "threads.guards",
    "guarded_facts_stand_sync": "threads.guards",
    "go_only_to": "langgraph.going_back",
    "from_latest": "langgraph.keys",
    "set_embedder": "collections.embedder",
    "Collections": "collections.catalog",
    "Collection": "collections.collection",
    "Document": "collections.documents",
    "content_id": "collections.documents",
    "dimensions_of": "collections.vectors",
    "CollectionVectorStore": "collections.langchain",
    "refuse_blocking": "threads.current",
    "record_call": "calls.records",
    "spent": "calls.records",
    "Spend": "calls.records",
    "Spent": "calls.records",
    "DeploymentHealth": "calls.deployment_health",
    "DeploymentAttempt": "calls.deployment_health",
    "Aggregate": "derived.aggregates",
    "Counts": "derived.batch",
    "Outcome": "derived.batch",
    "STDIN": "derived.files",
    "LineSource": "derived.files",
    "AggregateStatus": "derived.ingestion",
    "Ingestion": "derived.ingestion",
    "LateEvent": "derived.ingestion",
    "PartitionStatus": "derived.ingestion",
    "Quarantined": "derived.ingestion",
    "BATCH": "derived.pump",
    "Pumped": "derived.pump",
    "pump": "derived.pump",
    "Format": "derived.records",
    "Record": "derived.records",
    "Replica": "derived.replica",
    "ReplicaSource": "derived.replica",
    "ReplicaStatus": "derived.replica",
    "IngestionPoint": "derived.signals",
    "Signal": "derived.signals",
    "EventSource": "derived.sources",
    "Effect": "effects.handlers",
    "effect_handler": "effects.handlers:handler",
    "GiveUp": "effects.handlers",
    "webhook": "effects.webhook",
    "verify_webhook": "effects.webhook",
    "Outbox": "effects.outbox",
    "OutboxEffect": "effects.outbox",
    "Again": "effects.jobs",
    "Job": "effects.jobs",
    "Queue": "effects.queue",
    "EmbeddedServer": "embedded",
    "embedded_status": "embedded:status",
    "stop_embedded": "embedded:stop",
    "conflicts_in": "shared.channel",
    "plain": "shared.channel",
    "Swap": "shared.choose",
    "append": "shared.choose",
    "compare_and_set": "shared.choose",
    "last_writer": "shared.choose",
    "maximum": "shared.choose",
    "merge": "shared.choose",
    "minimum": "shared.choose",
    "reject": "shared.choose",
    "swap": "shared.choose",
    "Shared": "shared.declared",
    "declare_shared": "shared.declared:shared",
    "ABSENT": "shared.folding",
    "Conflict": "shared.folding",
    "Merged": "shared.folding",
    "SharedUpdate": "shared.outside",
}

__all__ = [
    "TransactionalSaver",
    "StoredThreads",
    "current_step",
    "Step",
    "SyncStep",
    "StepRecord",
    "ThreadSummary",
    "Activity",
    "RunningThread",
    "LatestRun",
    "Metrics",
    "Coherence",
    "Decided",
    "have_moved",
    "Retention",
    "Rule",
    "Sizes",
    "Swept",
    "Runner",
    "RunOptions",
    "GraphVersion",
    "graph_version",
    "EarlierAttempt",
    "Delivery",
    "Fleet",
    "Claimed",
    "End",
    "Exchange",
    "Limit",
    "Order",
    "QueuedRun",
    "Request",
    "Schedule",
    "Schedules",
    "asend",
    "awaited_child",
    "AttemptControl",
    "usable_effects",
    "GraphCall",
    "graph_call",
    "import_threads",
    "Imported",
    "ImportOutcome",
    "Lease",
    "Chosen",
    "Turn",
    "MemoryStore",
    "Memory",
    "MemoryVersion",
    "Origin",
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
    "Rewound",
    "declare_guarded",
    "guarded_facts_stand",
    "guarded_facts_stand_sync",
    "go_only_to",
    "from_latest",
    "set_embedder",
    "Collections",
    "Collection",
    "Document",
    "content_id",
    "dimensions_of",
    "CollectionVectorStore",
    "refuse_blocking",
    "record_call",
    "spent",
    "Spend",
    "Spent",
    "DeploymentHealth",
    "DeploymentAttempt",
    "Aggregate",
    "Counts",
    "Outcome",
    "STDIN",
    "LineSource",
    "AggregateStatus",
    "Ingestion",
    "LateEvent",
    "PartitionStatus",
    "Quarantined",
    "BATCH",
    "Pumped",
    "pump",
    "Format",
    "Record",
    "Replica",
    "ReplicaSource",
    "ReplicaStatus",
    "IngestionPoint",
    "Signal",
    "EventSource",
    "Effect",
    "effect_handler",
    "GiveUp",
    "webhook",
    "verify_webhook",
    "Outbox",
    "OutboxEffect",
    "Again",
    "Job",
    "Queue",
    "EmbeddedServer",
    "embedded_status",
    "stop_embedded",
    "conflicts_in",
    "plain",
    "Swap",
    "append",
    "compare_and_set",
    "last_writer",
    "maximum",
    "merge",
    "minimum",
    "reject",
    "swap",
    "Shared",
    "declare_shared",
    "ABSENT",
    "Conflict",
    "Merged",
    "SharedUpdate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute or name)
