"""What was measured in a window of time, asked of the database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.coherence import queries
from superstep.checkpointer.coherence.measures import Coherence, MeasuredStep, Tally, rate, step_name
from superstep.checkpointer.coherence.record import as_kept
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    import asyncpg

    from superstep.checkpointer.database.database import Database

__all__ = ["CallSums", "DeploymentSums", "FlowSums", "Metrics", "StepSums", "beginning", "metrics"]

_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class StepSums:
    """Committed super-steps of one graph.

    Attributes:
        graph: its name, if that is known.
        steps: how many.
        attempts: how often they were tried.
        repairs: commits that were repeated although no fact had changed.
        drifts: tasks that ran again because their facts had changed.
        escalations: super-steps that took turns.
        replays: super-steps that committed in another transaction than that of their reads.
        reads: facts that commits rest on.
        writes: staged writes that were applied.
        llm_reused: answers of models that were served again.
        waited_ms: milliseconds waited for turns.
        sum_ms: milliseconds of all together.
        p50_ms: milliseconds that half of them took at most.
        p95_ms: likewise 95 of 100.
    """

    graph: str | None
    steps: int
    attempts: int
    repairs: int
    drifts: int
    escalations: int
    replays: int
    reads: int
    writes: int
    llm_reused: int
    waited_ms: float
    sum_ms: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class CallSums:
    """Calls of one model, those of super-steps that have not committed included.

    Attributes:
        provider: the kind of service that answered; `None` if none did, or if the record is encrypted.
        model: its model, as far as it is known.
        offline: no model was asked.
        calls: how many.
        failed: those that no deployment answered.
        input_tokens: of all.
        output_tokens: of all.
        usd: what they cost, as far as prices are known; `None` where none is.
        p50_ms: milliseconds that half of the answered ones took at most, tries before included; `None` without any.
        p95_ms: likewise 95 of 100.
    """

    provider: str | None
    model: str | None
    offline: bool
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class DeploymentSums:
    """Requests to one deployment.

    Attributes:
        deployment: its name.
        requests: how many.
        failed: those that it did not answer.
    """

    deployment: str
    requests: int
    failed: int

    @property
    def error_rate(self) -> float:
        """The share of requests that failed."""
        return rate(self.failed, self.requests)


@dataclass(frozen=True, slots=True)
class FlowSums:
    """Threads that have changed in the window.

    Attributes:
        graph: name of their graph, if that is known.
        status: how their last run ended; "unfinished" while one is under way.
        flows: how many.
    """

    graph: str | None
    status: str
    flows: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """What was measured in a window of time.

    Attributes:
        since: where it begins, by the database's clock.
        until: where it ends.
        graph: the only graph that it is about; `None` for all.
        coherence: the measures of coherence but the reconciliation delta.
        coherence_since: from when on they are, if there were more super-steps than were asked for; else `since`.
        reconciled: flows that have decided again on reconciled state.
        reconciled_differing: those that decided otherwise.
        steps: super-steps, by graph.
        calls: calls of models, by provider and model.
        deployments: requests, by deployment.
        flows: threads, by graph and how they ended.
    """

    since: datetime
    until: datetime
    graph: str | None
    coherence: Coherence
    coherence_since: datetime
    reconciled: int
    reconciled_differing: int
    steps: list[StepSums]
    calls: list[CallSums]
    deployments: list[DeploymentSums]
    flows: list[FlowSums]

    @property
    def reconciliation_delta(self) -> float:
        """The share of flows that decide otherwise on reconciled state."""
        return rate(self.reconciled_differing, self.reconciled)


async def metrics(
    database: Database, *, since: timedelta | datetime, graph: str | None, most_steps: int, most_rows: int | None
) -> Metrics:
    """See `StoredThreads.ametrics`.

    The sums are worked out by the server. Super-steps are read page by page, since what one measure says of a
    super-step depends on those before it. Each statement sees the database as it is then; the window ends before the
    first of them, so they agree, but for what commits late: a super-step's moment is that of its snapshot.
    """
    schema = database.schema
    until = await database.autocommit(lambda conn: queries.now(conn, schema))
    window = queries.Window(beginning(since, until), until, graph)
    first = await database.autocommit(lambda conn: queries.kept_since(conn, schema, window, most_steps))
    of_steps = window if first is None else window._replace(since=first)
    tally = await _tally(database, of_steps)
    rows = {
        name: await database.autocommit(lambda conn, name=name: queries.sums(conn, schema, name, window))  # type: ignore[misc]
        for name in ("steps", "calls", "deployments", "flows")
    }
    again = await database.autocommit(lambda conn: queries.reconciliations(conn, schema, window))
    return Metrics(
        since=window.since,
        until=until,
        graph=graph,
        coherence=tally.result(most_rows),
        coherence_since=of_steps.since,
        reconciled=again["flows"],
        reconciled_differing=again["differing"],
        steps=[StepSums(**row) for row in rows["steps"]],
        calls=[CallSums(**row) for row in rows["calls"]],
        deployments=[DeploymentSums(**row) for row in rows["deployments"]],
        flows=[FlowSums(**row) for row in rows["flows"]],
    )


def beginning(since: timedelta | datetime, until: datetime) -> datetime:
    """Where a window begins that ends then.

    Raises:
        ConfigError: a moment without a time zone, or a negative time.
    """
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise ConfigError("since needs a time zone, such as datetime.now(UTC).")
        return since
    if since < timedelta(0):
        raise ConfigError("since must be a moment, or how long ago it is: not a negative time.")
    try:
        return until - since
    except OverflowError:
        return queries.FIRST[0]


async def _tally(database: Database, window: queries.Window) -> Tally:
    tally, after = Tally(), queries.FIRST
    while True:
        page = await database.autocommit(
            lambda conn, after=after: queries.kept(conn, database.schema, window, after, _PAGE)  # type: ignore[misc]
        )
        tally.add_all(map(_step, page))
        if len(page) < _PAGE:
            return tally
        last = page[-1]
        after = (last["created_at"], last["thread_id"], last["ns"], last["checkpoint_id"])


def _step(row: asyncpg.Record) -> MeasuredStep:
    record: dict[str, Any] | None = None if row["stats"] is None else json.loads(row["stats"])
    return MeasuredStep(
        row["thread_id"],
        row["graph"],
        "" if record is None else step_name(row["ns"], record.get("nodes", ())),
        row["created_at"].timestamp(),
        1 if record is None else int(record.get("attempts", 1)),
        None if record is None else as_kept(record),
    )
