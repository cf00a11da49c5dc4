"""What goes on right now, as the database knows it. Imports nothing of LangGraph."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from superstep.checkpointer.threads.queries import activity as queries
from superstep.checkpointer.threads.summaries import runner_of

if TYPE_CHECKING:
    from datetime import datetime

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.threads.summaries import Runner

__all__ = ["Activity", "RunningThread", "activity"]

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class RunningThread:
    """A thread that a run is at work on.

    Attributes:
        thread_id: its id.
        graph: name of its graph, if that is known.
        step: LangGraph's number of the super-step under way.
        step_seconds: seconds since that began.
        run_seconds: seconds since the run began.
        attempts: how often the super-step was tried by now, as far as it is stored: 1 without conflicts.
        drifts: tasks of it that had to run again.
        runner: the process.
    """

    thread_id: str
    graph: str | None
    step: int
    step_seconds: float
    run_seconds: float
    attempts: int
    drifts: int
    runner: Runner


@dataclass(frozen=True, slots=True)
class Activity:
    """What goes on at a moment.

    Attributes:
        at: the moment, by the database's clock.
        running: threads that runs are at work on, the longest first. Not those of plain LangGraph, which does not say
            when a run is over; nor those that have committed nothing for an hour.
        more_running: there are more.
        steps: super-steps committed in the last minute.
        conflicts: attempts of these that came to nothing.
        repairs: commits of these that were repeated although no fact had changed.
        drifts: tasks of these whose facts had changed.
        calls_minute: calls of models in the last minute.
        usd_minute: what they cost; `None` if no price is known.
        calls_hour: calls of models in the last hour.
        usd_hour: what they cost, likewise.
        tokens_hour: their tokens, in and out.
    """

    at: datetime
    running: list[RunningThread]
    more_running: bool
    steps: int
    conflicts: int
    repairs: int
    drifts: int
    calls_minute: int
    usd_minute: float | None
    calls_hour: int
    usd_hour: float | None
    tokens_hour: int


async def activity(database: Database, most: int) -> Activity:
    """What goes on now. Three statements along indexes by time."""
    return await database.autocommit(lambda conn: _activity(conn, database.schema, most))


async def _activity(conn: Connection, schema: str, most: int) -> Activity:
    rows = await queries.running(conn, schema, _HOUR, most + 1)
    steps = await queries.steps(conn, schema, _MINUTE)
    spend = await queries.spend(conn, schema, _MINUTE, _HOUR)
    found = [
        RunningThread(
            row["thread_id"],
            row["graph"],
            row["step"],
            row["step_seconds"],
            row["run_seconds"],
            row["attempts"],
            row["drifts"],
            runner,
        )
        for row in rows[:most]
        if (runner := runner_of(row)) is not None
    ]
    return Activity(
        at=spend["at"],
        running=found,
        more_running=len(rows) > most,
        steps=steps["steps"],
        conflicts=steps["conflicts"],
        repairs=steps["repairs"],
        drifts=steps["drifts"],
        calls_minute=spend["calls_lately"],
        usd_minute=spend["usd_lately"],
        calls_hour=spend["calls"],
        usd_hour=spend["usd"],
        tokens_hour=spend["tokens"],
    )
