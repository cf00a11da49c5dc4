"""Runs that wait for a worker: submitted by a transaction, given out under limits, recorded when they end.

The table `queued_run` is the truth; a job of the queue (`effects.queue`) wakes a worker, and carries no more than the
id of a run. A worker that is woken takes the run that is next, not the one of the job, because only the table knows
limits, threads and tenants. Jobs may thus be lost, doubled or late without harm: a worker that has room also looks by
itself. (PgQueuer ends, retries and renews a job by its id alone, whoever has it by then. A worker that wakes up late
would end, or keep alive, the job of another one. So leases and their numbers stand in our table.)

What could break it, and what stops that:

*The caller rolls back.* The row of the run and the job are of its transaction.

*Two workers give out runs at once.* Both count what runs before they choose, so both could fill the last place of a
limit, or take two runs of a thread. The transaction that gives out first updates `run_gate`, waits there for the other
one, and chooses in a later statement, whose snapshot (READ COMMITTED) has what that one did. One run a thread is also
what a unique index says.

*A worker is killed, or paused beyond its lease.* Another one takes the run, under the next `delivery`. What the first
one still tells of it (`end`, `put_back`, `renew`) names the delivery it was given and changes nothing.

*It wakes up and goes on with the run.* If it had the thread, it is fenced: `begin` raises the token before it looks how
far the run has come, so what it saw stays so. If it had not come to take the thread, it cannot any more: taking it
(`threads.queries.running.claim`) requires the delivery, under a lock that giving the run out waits for. So an input is
entered once: either the first worker has stored its checkpoint by the time `has_begun` looks, or it never will.

*A worker dies between the last commit of a run and `end`.* The run is given out again, has begun, and its thread has
nothing left to do: it is recorded as ended.

*Turns among tenants.* The tenant that was served longest ago is served next (`run_tenant.served`), and a worker with
several places gives each tenant one before any gets a second. So with n tenants waiting, each gets every n-th start,
whatever the others have queued; a weighing by what runs right now would starve nobody either, but could hold a place
back from the only tenant that waits. Priorities order the runs of one tenant, and not tenants among each other: else
whoever says the largest number would be served alone.
"""

from __future__ import annotations

import os
import platform
import uuid
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from superstep.checkpointer.children.spawned import WAKE
from superstep.checkpointer.effects.handlers import handler_of
from superstep.checkpointer.effects.queue import Job, Queue
from superstep.checkpointer.fleet import queries
from superstep.checkpointer.fleet.ends import child_ends, is_about_others, stands_again
from superstep.checkpointer.fleet.giving import exchange
from superstep.checkpointer.fleet.orders import refuse_unusable
from superstep.checkpointer.fleet.queries import Ended, NewRun, Wanted
from superstep.checkpointer.fleet.runs import Claimed, End, Exchange, Limit, Order, QueuedRun, Request
from superstep.checkpointer.fleet.stored import OF_RUN, dump_request, load_request
from superstep.checkpointer.fleet.waiting import Waiting
from superstep.checkpointer.langgraph.ids import usable, usable_thread
from superstep.checkpointer.langgraph.sealed import HIDDEN, readable_text
from superstep.runtime.faults import ConfigError, ValueNotAuthentic
from superstep.runtime.masking import storable
from superstep.runtime.telemetry.switch import active

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from uuid import UUID

    import asyncpg
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.database.pool import AnyConnection
    from superstep.checkpointer.effects.jobs import Handler

__all__ = ["Fleet"]

T = TypeVar("T")

_SCOPES = ("graph", "key")
_JOBS = 16  # jobs of the queue that a worker does at once, beside runs
_ERROR = "error of a run"
_ROLLED_BACK = "Rolled back: a later call has taken the place of its input."


class _Over(NamedTuple):
    """A run that is over, for those who wait for it."""

    run_id: UUID
    thread_id: str
    answer: str | None = None


class Fleet(Waiting):
    """The queued runs of a saver's schema. For any event loop.

    Args:
        database: of the saver.
        serde: the saver's; `None` for listings by a program that has none.
    """

    def __init__(self, database: Database, serde: SerializerProtocol | None) -> None:
        self._database, self._serde = database, serde
        self._queue = Queue(database)

    # -- submitting ----------------------------------------------------------------------------------------------

    async def submit(
        self,
        graph: str,
        input: Any,  # noqa: A002 - LangGraph's name
        *,
        conn: asyncpg.Connection[asyncpg.Record] | None = None,
        thread: str | None = None,
        config: dict[str, Any] | None = None,
        context: Any = None,
        priority: int = 0,
        delay: timedelta = timedelta(0),
        key: str | None = None,
        tenant: str = "",
    ) -> str:
        """Have a run wait for a worker. Returns the id of its thread at once.

        Args:
            graph: its name, as `runtime run` takes it. Whether a worker has it turns out when one looks.
            input: as for `ainvoke`.
            conn: a connection in a transaction of yours, of asyncpg: the run exists if and when that commits, and
                not at all if it rolls back. Without one it exists when this returns.
            thread: id of its thread; a new one by default. Runs of one thread happen one after the other, in the order
                in which they were submitted.
            config: LangGraph's config, without the thread.
            context: what nodes find in `runtime.context`.
            priority: see `Order`.
            delay: see `Order`.
            key: see `Order`.
            tenant: see `Order`.

        Raises:
            ValueNotSerializable: the input would not come back as itself. Nothing was stored.
            ConfigError: an id, a priority or a delay that PostgreSQL cannot hold, an answer that does not name its
                question, or the package of the queue is not installed.
        """
        request = Request(input, config or {}, context)
        (made,) = await self.submit_all([Order(graph, request, thread, priority, delay, key, tenant)], conn=conn)
        return made

    async def submit_all(
        self, orders: Sequence[Order], *, conn: asyncpg.Connection[asyncpg.Record] | None = None
    ) -> list[str]:
        """As `submit`, many at once, in few statements. Ids of the threads, in the order of the runs."""
        new = [self._new(order) for order in orders]
        if conn is not None:
            await self._put(conn, new)
        elif new:
            await self._database.home.call(self._put_by_itself(new))
        return [each.thread_id for each in new]

    def _new(self, order: Order) -> NewRun:
        refuse_unusable(order)
        run_id = uuid.UUID(bytes=os.urandom(16), version=4)
        request = replace(order.request, traceparent=active.traceparent())
        kind, stored = dump_request(self._serde, request, OF_RUN, str(run_id))
        return NewRun(
            run_id,
            usable_thread(order.thread) if order.thread is not None else str(uuid.uuid4()),
            usable(order.graph, "The graph"),
            usable(order.tenant, "The tenant"),
            None if order.key is None else usable(order.key, "The key"),
            order.priority,
            kind,
            stored,
            max(order.delay.total_seconds(), 0.0),
        )

    async def _put(self, conn: AnyConnection, new: Sequence[NewRun]) -> None:
        await queries.submit(conn, self._database.schema, new)
        # One to wake somebody for each time at which something is due.
        wakes = {each.delay: Job(WAKE, str(each.run_id).encode(), 0, timedelta(seconds=each.delay)) for each in new}
        await self._queue.put(conn, list(wakes.values()))

    async def _put_by_itself(self, new: Sequence[NewRun]) -> None:
        async def put(conn: Connection) -> None:
            async with conn.transaction(isolation="read_committed"):
                await self._put(conn, new)

        # Repeated after a lost connection it finds its own rows: their ids are made before.
        await self._database.autocommit(put)

    # -- by workers ----------------------------------------------------------------------------------------------

    def request(self, run: Claimed, serde: SerializerProtocol) -> Request:
        """What a run is entered with, by a serializer that knows the types of its graph.

        Raises:
            ValueNotAuthentic: it was stored with another key, or changed since.
        """
        if run.answer == "child":
            return Request(None)
        return load_request(serde, (run.kind, run.stored), OF_RUN, str(run.run_id))

    async def claim(
        self, worker: UUID, graphs: Collection[str], most: int, lease: float, mine: Collection[UUID] = ()
    ) -> list[Claimed]:
        """The next runs for a worker, in the order in which they are to start.

        Args:
            worker: its id.
            graphs: those that it has.
            most: how many at most.
            lease: seconds after which others take them, unless it renews them.
            mine: runs that it is at. Should it have failed to renew them, it does not take them from itself.
        """
        return (await self.exchange(worker, graphs, most, lease, mine)).runs

    async def exchange(
        self,
        worker: UUID,
        graphs: Collection[str],
        most: int,
        lease: float,
        mine: Collection[UUID] = (),
        ends: Collection[End] = (),
    ) -> Exchange:
        """As `claim`, and record in the same transaction how runs of this worker have ended.

        `mine` are those that it is at, the ended ones among them.
        """
        wanted = Wanted(sorted(graphs), list(mine), worker, lease)
        said = [
            Ended(end.run.run_id, end.run.delivery, end.state, self._sealed(end.run.run_id, end.error)) for end in ends
        ]
        return await self._autocommit(lambda conn, schema: exchange(conn, schema, wanted, most, said))

    async def begin(self, run: Claimed) -> bool:
        """Before a run is entered: nobody else is at it. Whether its input is in its thread already."""
        if run.delivery == 1:
            return False
        return await self._database.home.call(self._begin(run))

    async def _begin(self, run: Claimed) -> bool:
        schema = self._database.schema
        if run.left_by:
            await self._database.autocommit(lambda conn: queries.fence(conn, schema, run.thread_id, run.left_by))
        return await self._database.autocommit(lambda conn: queries.has_begun(conn, schema, run.thread_id, run.run_id))

    async def renew(self, worker: UUID, runs: Collection[Claimed], lease: float) -> set[UUID]:
        """Renew the leases of runs. Those that are this worker's still; what is done on the others is in vain."""
        if not runs:
            return set()
        mine = [(run.run_id, run.delivery) for run in runs]
        return await self._autocommit(lambda conn, schema: queries.renew(conn, schema, worker, mine, lease))

    async def end(
        self, run: Claimed, state: str, error: str | None = None, *, values: Any = None, refused: bool = False
    ) -> bool:
        """Record how a run ended. False if another worker has it, which says so then.

        Args:
            run: the run.
            state: how.
            error: with what.
            values: of one that has completed, for a parent that waits: what its graph has put out.
            refused: it carried an answer that does not count, so nothing of its thread has ended.
        """
        said = [Ended(run.run_id, run.delivery, state, self._sealed(run.run_id, error))]

        async def end(conn: Connection, schema: str) -> bool:
            if refused or not is_about_others(run):
                return bool(await queries.ended(conn, schema, said))
            async with conn.transaction(isolation="read_committed"):
                if not await queries.ended(conn, schema, said):
                    return False
                outcome = values if state == "completed" else storable(error or "")
                await child_ends(conn, self._database, self._serde, run, state, outcome)
            return True

        return await self._autocommit(end)

    async def taken_back(self, conn: Connection, thread_id: str, worker: UUID) -> None:
        """What a worker's run has entered into a thread is taken back: it is over. In the transaction that does so."""
        schema = self._database.schema
        for run_id, delivery in await queries.at_work(conn, schema, thread_id, worker):
            said = self._sealed(run_id, _ROLLED_BACK)
            if await queries.ended(conn, schema, [Ended(run_id, delivery, "failed", said)]):
                over = _Over(run_id, thread_id)
                await child_ends(conn, self._database, self._serde, over, "failed", _ROLLED_BACK)
        await stands_again(conn, self._database, self._serde, thread_id, _ROLLED_BACK)

    async def put_back(
        self, run: Claimed, delay: float = 0.0, error: str | None = None, *, failed: bool = False
    ) -> bool:
        """Have a run wait again, for so many seconds at least. False if another worker has it."""
        said = self._sealed(run.run_id, error)
        wake = Job(WAKE, str(run.run_id).encode(), 0, timedelta(seconds=delay))

        async def put(conn: Connection, schema: str) -> bool:
            async with conn.transaction(isolation="read_committed"):
                row = await queries.put_back(conn, schema, run.run_id, run.delivery, delay, said, failed=failed)
                if row is not None:
                    await self._queue.put(conn, [wake])
                return row is not None

        return await self._autocommit(put)

    async def beat(self, worker: UUID, graphs: Collection[str], concurrency: int, lease: float) -> None:
        """Say that a worker is there, and which graphs it has."""
        place = platform.node(), os.getpid()
        await self._autocommit(
            lambda conn, schema: queries.beat(conn, schema, worker, place, sorted(graphs), concurrency, lease)
        )

    async def leave(self, worker: UUID) -> None:
        """A worker is no more."""
        await self._autocommit(lambda conn, schema: queries.leave(conn, schema, worker))

    async def wakes(
        self,
        woken: Callable[[], Awaitable[None]],
        *,
        lease: float,
        stop: asyncio.Event,
        others: Mapping[str, Handler] | None = None,
    ) -> None:
        """Call `woken` whenever a run has come or may start, until `stop` is set. Raises what `Queue.work` does.

        `others` are handlers of further jobs of the queue, by their kinds.
        """

        async def handle(_payload: bytes, _attempts: int) -> None:
            await woken()

        handlers = {**(others or {}), WAKE: handle}
        await self._database.home.call(self._queue.work(handlers, concurrency=_JOBS, lease=lease, stop=stop))

    async def graph_of_effect(self, effect_id: str) -> str | None:
        """The graph to load for the handler of an effect; `None` if that is here, or is not known to be anywhere."""
        row = await self._autocommit(lambda conn, schema: queries.graph_of_effect(conn, schema, effect_id))
        return row["graph"] if row is not None and handler_of(row["topic"]) is None else None

    # -- looking -------------------------------------------------------------------------------------------------

    async def graphs(self) -> dict[str, bool]:
        """Graphs of runs that have not ended, and whether a worker has them."""
        return {row["graph"]: row["has_worker"] for row in await self._autocommit(queries.graphs)}

    async def runs(
        self, most: int = 50, *, state: str | None = None, thread: str | None = None, before: int | None = None
    ) -> list[QueuedRun]:
        """Runs, the latest first.

        Args:
            most: how many at most.
            state: only those in this one.
            thread: only those of this thread.
            before: only those with a smaller `nr`.
        """
        rows = await self._autocommit(lambda conn, schema: queries.runs(conn, schema, most, state, thread, before))
        return [QueuedRun(**{**dict(row), "error": self._opened(row["run_id"], row["error"])}) for row in rows]

    async def limits(self) -> list[Limit]:
        """All limits."""
        return [Limit(**dict(row)) for row in await self._autocommit(queries.limits)]

    async def set_limit(self, limit: Limit) -> None:
        """Let at most so many runs be under way at once, over all workers, from the next one that starts on.

        Raises:
            ConfigError: it is no limit.
        """
        if limit.scope not in _SCOPES or limit.most < 1:
            raise ConfigError(
                f"A limit is of a graph or of a key, and 1 or more: not of {limit.scope!r}, {limit.most}."
            )
        await self._autocommit(lambda conn, schema: queries.set_limit(conn, schema, **asdict(limit)))

    async def drop_limit(self, scope: str, name: str) -> bool:
        """Have no limit there. Whether there was one."""
        return await self._autocommit(lambda conn, schema: queries.drop_limit(conn, schema, scope, name))

    async def _autocommit(self, work: Callable[[Connection, str], Awaitable[T]]) -> T:
        schema = self._database.schema
        return await self._database.home.call(self._database.autocommit(lambda conn: work(conn, schema)))

    def _sealed(self, run_id: UUID, error: str | None) -> str | None:
        from superstep.checkpointer.langgraph.encryption import sealed_text

        if error is None or self._serde is None:
            return None
        return sealed_text(self._serde, storable(error), _ERROR, str(run_id))

    def _opened(self, run_id: UUID, held: str | None) -> str | None:
        if held is None or self._serde is None:
            return held and readable_text(held)
        from superstep.checkpointer.langgraph.encryption import opened_text

        try:
            return opened_text(self._serde, held, _ERROR, str(run_id))
        except ValueNotAuthentic:
            return HIDDEN
