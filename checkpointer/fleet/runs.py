"""What a queued run is: as it is asked for, as a worker is given it, and as it is listed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

__all__ = ["Claimed", "End", "Exchange", "Limit", "Order", "QueuedRun", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a run is entered with.

    Attributes:
        input: as for `ainvoke`.
        config: LangGraph's config without the thread.
        context: what nodes find in `runtime.context`.
        traceparent: the span that was current where it was submitted, if telemetry was on there.
    """

    input: Any
    config: dict[str, Any] = field(default_factory=dict)
    context: Any = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A run that is to be.

    Attributes:
        graph: its name, as workers load it.
        request: what it is entered with.
        thread: id of its thread; a new one by default.
        priority: of the runs of one tenant that may start, a greater one starts first; among equals the older one.
        delay: how long it waits at least, from the beginning of the transaction that submits it.
        key: what it shares a limit with, see `Fleet.set_limit`.
        tenant: who it is for. Tenants take turns, however many runs each has waiting.
    """

    graph: str
    request: Request
    thread: str | None = None
    priority: int = 0
    delay: timedelta = timedelta(0)
    key: str | None = None
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that a worker has been given.

    Attributes:
        run_id: identifies it, and is the `run_id` in the metadata of its checkpoints.
        thread_id: its thread.
        graph: name of its graph.
        delivery: how often it was given to a worker, this time included.
        failures: how often it has ended in an error that was worth another try.
        left_by: the workers that have let go of it without a word.
        kind: format of `stored`.
        stored: its request, as it is stored.
        parent: the thread whose commit has queued it, if it is a child.
        answer: why it goes on with a thread that waits: "sent", "expiry" or "child"; `None` if it brings input.
        question: the number of the question that it answers.
        asked_as: the id of that.
    """

    run_id: UUID
    thread_id: str
    graph: str
    delivery: int
    failures: int
    left_by: tuple[UUID, ...]
    kind: str = field(repr=False)
    stored: bytes = field(repr=False)
    parent: str | None = None
    answer: str | None = None
    question: int | None = None
    asked_as: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """How a run has ended at the worker that was given it.

    Attributes:
        run: as it was given.
        state: "completed", "interrupted" or "failed".
        error: of one that has failed.
    """

    run: Claimed
    state: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a worker has got for the runs that it has ended.

    Attributes:
        runs: the next ones, in the order in which they are to start.
        recorded: those whose ends are recorded; the others are other workers' by now, which say so then.
        until: seconds until a run of another worker may be taken over, unless that renews it.
    """

    runs: list[Claimed]
    recorded: set[UUID]
    until: float | None


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A run as it is listed.

    Attributes:
        run_id: identifies it.
        nr: in the order in which runs were submitted.
        thread_id: its thread.
        graph: name of its graph.
        tenant: see `Order`.
        key: see `Order`.
        priority: see `Order`.
        state: "queued", "running", "completed", "interrupted" or "failed".
        delivery: how often it was given to a worker.
        failures: how often it has ended in an error that was worth another try.
        due_at: when it may start.
        error: what it has ended with, or ended with before it is tried again.
        schedule: name of the schedule that it is of.
        tick: for when that has planned it.
        parent: the thread whose commit has queued it, if it is a child.
        answer: of one that goes on with a thread that waits: "sent" (it carries an answer), "expiry" (the time of a
            question is over) or "child" (the child has ended that the thread waits for).
        created_at: when it was submitted.
        started_at: when it was first given to a worker.
        ended_at: when it ended.
        has_worker: whether some worker has its graph. Of no meaning once it has started.
    """

    run_id: UUID
    nr: int
    thread_id: str
    graph: str
    tenant: str
    key: str | None
    priority: int
    state: str
    delivery: int
    failures: int
    due_at: datetime
    error: str | None
    schedule: str | None
    tick: datetime | None
    parent: str | None
    answer: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    has_worker: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """How many runs may be under way at once, over all workers.

    Attributes:
        scope: "graph" or "key".
        name: of the graph, or the key; "*" for each one that has no limit of its own.
        most: so many.
    """

    scope: str
    name: str
    most: int
