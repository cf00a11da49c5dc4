"""Runs that are submitted again and again, at times that a schedule names.

Every worker looks, and any of them may be the one that submits. What could break it, and what stops that:

*Two workers see that a time has come.* The first one locks the row of the schedule, submits, and moves its next time,
in one transaction; the other one skips the row, or sees the next time.

*The clock is put back, or a schedule is added anew.* A run is of a schedule and a time, and there is one of both: a
time that comes twice finds its run. Its next time, which then seems far away, is drawn near again (`_draw_near`).

*The clock is put forward, or no worker ran for a while.* `catch_up` says what becomes of the times that were missed,
and of no schedule are more than the latest `MOST` made up for: a year's worth of minutes does not flood the queue. The
clock is that of the database, so workers need not agree on one.
"""

from __future__ import annotations

import logging
import os
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from superstep.checkpointer.children.spawned import WAKE
from superstep.checkpointer.effects.queue import Job, Queue
from superstep.checkpointer.fleet.stored import OF_SCHEDULE, dump_request, move_request
from superstep.checkpointer.fleet.ticks import plan
from superstep.checkpointer.langgraph.ids import usable
from superstep.runtime.faults import ConfigError
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    import asyncpg
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.fleet.runs import Request

__all__ = ["MOST", "Schedule", "Schedules", "missed"]

T = TypeVar("T")

_log = logging.getLogger("superstep.worker")

MOST = 100
"""Of the times that a schedule has missed, so many are made up for at most: the latest."""

_ON_TIME = timedelta(minutes=1)  # what comes no later than this was not missed
_CATCH_UP = ("none", "one", "all")
_sql = beside(__file__)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a run is submitted.

    Attributes:
        name: identifies it.
        graph: of the runs.
        expression: five fields, as of cron.
        timezone: an IANA name: whose clock on the wall the fields are about.
        catch_up: what becomes of times that were missed because no worker ran: "none" of them counts, "one" run makes
            up for all of them, or "all" are made up for, the latest 100.
        tenant: of the runs.
        next_tick: the next time; set when it is added.
        created_at: when it was added.
    """

    name: str
    graph: str
    expression: str
    timezone: str = "UTC"
    catch_up: str = "one"
    tenant: str = ""
    next_tick: datetime | None = None
    created_at: datetime | None = None


class _Due(NamedTuple):
    """Runs to be submitted (time, id, thread, kind and value of the request) and the time after them."""

    runs: list[tuple[datetime, uuid.UUID, str, str, bytes]]
    next_tick: datetime


class Schedules:
    """The schedules of a saver's schema. For any event loop.

    Args:
        database: of the saver.
        serde: the saver's; `None` for a program that only lists and removes.
    """

    def __init__(self, database: Database, serde: SerializerProtocol | None) -> None:
        self._database, self._serde = database, serde
        self._left: dict[str, str] = {}  # why schedules are left to others, by name: said once

    async def add(self, schedule: Schedule, request: Request) -> datetime:
        """Submit a run with this request at each time of the schedule, from now on. The first time.

        Raises:
            ConfigError: the expression, the time zone or the rule is none, it never fires, or the name is taken.
            ValueNotSerializable: the request would not come back as itself.
        """
        if schedule.catch_up not in _CATCH_UP:
            raise ConfigError(f'catch_up is "none", "one" or "all", not {schedule.catch_up!r}.')
        name, graph = usable(schedule.name, "The name"), usable(schedule.graph, "The graph")
        times = plan(schedule.expression, schedule.timezone)
        kind, stored = dump_request(self._serde, request, OF_SCHEDULE, name)

        async def add(conn: Connection, schema: str) -> datetime:
            sql = _sql(schema)
            first = times.after(await conn.fetchval("SELECT now()"))
            how = schedule.expression, schedule.timezone, schedule.catch_up, usable(schedule.tenant, "The tenant")
            if await conn.fetchrow(sql["add"], name, graph, *how, kind, stored, first) is None:
                raise ConfigError(
                    f"There is a schedule {name!r} already. Remove it first, or choose another name: runtime cron list"
                )
            return first

        return await self._autocommit(add)

    async def list(self) -> list[Schedule]:
        """All of them, by name."""
        rows = await self._autocommit(lambda conn, schema: conn.fetch(_sql(schema)["listed"]))
        return [Schedule(**dict(row)) for row in rows]

    async def remove(self, name: str) -> bool:
        """Submit no more. Whether there was such a schedule; runs that were submitted stay."""
        found = await self._autocommit(lambda conn, schema: conn.fetchrow(_sql(schema)["remove"], name))
        return found is not None

    async def submit_due(self) -> int:
        """Submit what is due. How many schedules had something to submit. Any number of workers may call it at once."""
        return await self._autocommit(self._submit_due)

    async def _submit_due(self, conn: Connection, schema: str) -> int:
        if not await conn.fetchval(_sql(schema)["is_due"]):
            return 0
        async with conn.transaction(isolation="read_committed"):
            rows = await conn.fetch(_sql(schema)["due"])
            made = [(row, due) for row in rows if (due := self._due(row)) is not None]
            for row, due in made:
                what = row["name"], row["graph"], row["tenant"]
                columns = zip(*due.runs, strict=True) if due.runs else [()] * 5
                await conn.execute(_sql(schema)["submit"], *what, *columns)
                await conn.execute(_sql(schema)["move"], row["name"], due.next_tick)
            if made:
                await Queue(self._database).put(conn, [Job(WAKE, b"")])
        return len(made)

    def _due(self, row: asyncpg.Record) -> _Due | None:
        """What is to be submitted of a schedule; `None` if that cannot be told. The others' time comes as well."""
        try:
            times = plan(row["expression"], row["timezone"])
            runs = []
            for tick in missed(times.after, row["next_tick"], row["now"], row["catch_up"]):
                run_id = uuid.UUID(bytes=os.urandom(16), version=4)
                stored = move_request(self._serde, (row["kind"], row["request"]), row["name"], str(run_id))
                runs.append((tick, run_id, str(uuid.uuid4()), *stored))
            return _Due(runs, times.after(row["now"]))
        except Exception as error:  # noqa: BLE001 - a key that is not here, a zone that this machine does not know
            if self._left.get(row["name"]) != str(error):
                self._left[row["name"]] = str(error)
                _log.warning("Schedule %r is left to other workers: %s", row["name"], error)
            return None

    async def draw_near(self) -> None:
        """Where the clock was put back: set the next times anew. Ask now and then."""
        await self._autocommit(self._draw_near)

    async def _draw_near(self, conn: Connection, schema: str) -> None:
        for row in await conn.fetch(_sql(schema)["far"]):
            nearer = _next_of(row)
            if nearer is not None and nearer < row["next_tick"]:
                await conn.execute(_sql(schema)["draw_near"], row["name"], row["next_tick"], nearer)

    async def _autocommit(self, work: Callable[[Connection, str], Awaitable[T]]) -> T:
        schema = self._database.schema
        return await self._database.home.call(self._database.autocommit(lambda conn: work(conn, schema)))


def _next_of(row: asyncpg.Record) -> datetime | None:
    """Its next time from now on; `None` if that cannot be told here."""
    try:
        return plan(row["expression"], row["timezone"]).after(row["now"])
    except ConfigError:
        return None


def missed(after: Callable[[datetime], datetime], first: datetime, now: datetime, catch_up: str) -> list[datetime]:
    """The times from the first one until now for which runs are to be submitted. Pure.

    Args:
        after: the next time after a moment.
        first: the first time for which none was submitted; it has come.
        now: the moment.
        catch_up: see `Schedule`.
    """
    most, span = MOST if catch_up == "all" else 1, timedelta(minutes=1)
    while True:  # backwards, in strides: there may be a year of minutes
        begin = max(first, now - span)
        found, tick = [], first if begin == first else after(begin)
        while tick <= now:
            found.append(tick)
            tick = after(tick)
        if len(found) >= most or begin == first:
            break
        span *= 2
    if catch_up == "all":
        return found[-most:]
    return [each for each in found[-1:] if catch_up == "one" or now - each <= _ON_TIME]
