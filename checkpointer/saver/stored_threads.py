"""The database of a saver: its tables, and what they tell of threads. Imports nothing of LangGraph.

Rooms that most programs never enter (workers, effects, events, collections) are imported by those who ask for them.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self, cast

from superstep.checkpointer.calls.deployment_health import DeploymentHealth, deployment_health
from superstep.checkpointer.coherence.record import DAY
from superstep.checkpointer.collections.embedder import TextEmbedder
from superstep.checkpointer.collections.known import KnownCollections
from superstep.checkpointer.database import migrate
from superstep.checkpointer.database.database import Database
from superstep.checkpointer.database.vectors import WHERE_VECTORS_ARE, create_vectors, vectors_missing
from superstep.checkpointer.langgraph.ids import usable, usable_thread
from superstep.checkpointer.langgraph.sealed import readable_text
from superstep.checkpointer.saver.lifecycle import Lifetime
from superstep.checkpointer.saver.setup import Setup
from superstep.checkpointer.threads import activity, listings, retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence
    from datetime import datetime, timedelta

    import asyncpg
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.coherence.again import Decided
    from superstep.checkpointer.coherence.report import Metrics
    from superstep.checkpointer.collections.catalog import Collections
    from superstep.checkpointer.database.server import Server
    from superstep.checkpointer.derived.ingestion import Ingestion
    from superstep.checkpointer.effects.outbox import Outbox
    from superstep.checkpointer.fleet.fleet import Fleet
    from superstep.checkpointer.fleet.schedules import Schedules
    from superstep.checkpointer.memory.rows import Memory
    from superstep.checkpointer.threads.activity import Activity
    from superstep.checkpointer.threads.listings import Chosen
    from superstep.checkpointer.threads.retention import Retention, Sizes, Swept
    from superstep.checkpointer.threads.summaries import LatestRun, StepRecord, ThreadSummary

__all__ = ["StoredThreads"]


class StoredThreads:
    """What a program needs of a saver that runs no graph: a listing, a migration, a transaction of its own.

    A `TransactionalSaver` is one too.

    Attributes:
        database: where the threads are.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def opened(
        cls, url: str | None = None, *, schema: str = "runtime", pool_min: int = 1, pool_max: int = 10
    ) -> Lifetime[Self]:
        """On a pool of its own, as a context manager. See `TransactionalSaver.from_conn_string`."""

        async def build(pool: asyncpg.Pool[asyncpg.Record], server: Server) -> Self:
            return cls(Database(pool, schema=schema, hold_idle=0, own_pool=True, server=server))

        return Lifetime(build, url=url, pool_min=pool_min, pool_max=pool_max)

    def setup(self) -> Setup:
        """Create or migrate the tables. Idempotent, safe to run in many processes at once. Names what was applied.

        pgvector's extension is created too, where the server has it and the user may; see `arequire_vectors`.

        `await saver.setup()` in asynchronous code. Without an event loop, and with a saver that was opened by `with`,
        `saver.setup()` does it by itself, and returns when it is done.
        """
        return Setup(self._setup(), self.database.home)

    async def _setup(self) -> list[str]:
        from superstep.checkpointer.effects.queue import install_queue

        async with self.database.connections.borrow() as conn:
            applied = await migrate.migrate(conn, self.schema)
            await install_queue(conn, self.schema)
        if applied:
            await self.database.connections.renew()  # pgvector's types exist only now
        return applied

    async def arequire_vectors(self) -> None:
        """Create pgvector's extension unless it is there. Call it before you create tables that hold vectors.

        Raises:
            ExtensionMissing: the server has none, or this user may not create it.
        """
        await self.database.home.call(self._require_vectors())

    async def _require_vectors(self) -> None:
        async with self.database.connections.borrow() as conn:
            await create_vectors(conn)
            (found,) = await conn.fetch(WHERE_VECTORS_ARE)
        if (missing := vectors_missing(found)) is not None:
            raise missing
        await self.database.connections.renew()

    @property
    def outbox(self) -> Outbox:
        """The effects of all threads. Use it on the saver's event loop."""
        from superstep.checkpointer.effects.outbox import Outbox

        return Outbox(self.database, lambda text, _: readable_text(text))

    @property
    def collections(self) -> Collections:
        """The collections of texts with embeddings: making, finding, listing and dropping them."""
        from superstep.checkpointer.collections.catalog import Collections

        return Collections(self.database, TextEmbedder(), KnownCollections())

    async def apending(self) -> list[str]:
        """Names of the migrations that `setup` would apply, in order."""
        return await self.database.home.call(self._pending())

    async def _pending(self) -> list[str]:
        async with self.database.connections.borrow() as conn:
            return await migrate.pending(conn, self.schema)

    @property
    def schema(self) -> str:
        """The schema of the saver's own tables."""
        return self.database.schema

    @property
    def ingestion(self) -> Ingestion:
        """Derived state: declaring aggregates and ingesting events, outside of any super-step."""
        from superstep.checkpointer.derived.ingestion import Ingestion

        return Ingestion(self.database)

    @property
    def fleet(self) -> Fleet:
        """Runs that wait for a worker: submitting them, in a transaction of your own too, and looking at them."""
        from superstep.checkpointer.fleet.fleet import Fleet

        return Fleet(self.database, self._key())

    @property
    def schedules(self) -> Schedules:
        """Runs that are submitted again and again, at times that a schedule names."""
        from superstep.checkpointer.fleet.schedules import Schedules

        return Schedules(self.database, self._key())

    async def aclose(self) -> None:
        """Give every connection back, when all background work has ended. The pool stays open."""
        await self.database.home.call(self._close())

    async def _close(self) -> None:
        await self.database.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A SERIALIZABLE transaction of your own, outside any super-step: for setting up tables and loading data.

        Whatever of the session it sets, opens or locks ends with it. Use it on the saver's own event loop.

        Raises:
            LoopUnavailable: used on another one.
        """
        self.database.home.refuse_elsewhere("saver.transaction()")
        async with self.database.transaction() as conn:
            yield cast("asyncpg.Connection[asyncpg.Record]", conn)

    async def athreads(self, limit: int | None = None, *, after: ThreadSummary | None = None) -> list[ThreadSummary]:
        """Threads, the most recently changed first.

        Args:
            limit: how many at most.
            after: only those that come after this one: the last of the page before. A page costs as much as it has
                threads. One that has changed meanwhile is not on it: it would be on the first page now.
        """
        return await self.database.home.call(listings.threads(self.database, self._key(), limit, after))

    async def achosen(
        self, chosen: Chosen, limit: int | None = None, *, after: ThreadSummary | None = None
    ) -> list[ThreadSummary]:
        """`athreads`, of the threads that are meant."""
        found = listings.chosen_threads(self.database, self._key(), chosen, limit, after)
        return await self.database.home.call(found)

    async def athread(self, thread_id: str) -> ThreadSummary | None:
        """One thread, or `None`."""
        return await self.database.home.call(listings.thread(self.database, self._key(), usable_thread(thread_id)))

    async def athread_ids(self, beginning: str, most: int) -> list[str]:
        """Ids of threads that begin so, in their order; at most so many."""
        return await self.database.home.call(listings.thread_ids(self.database, usable_thread(beginning), most))

    async def asteps(self, thread_id: str, limit: int | None = None, *, since: str | None = None) -> list[StepRecord]:
        """The committed super-steps of a thread, oldest first, subgraphs' included.

        Args:
            thread_id: the thread.
            limit: how many at most: the latest.
            since: only those whose checkpoint has a greater id than this.
        """
        found = listings.steps(self.database, self._key(), usable_thread(thread_id), since=since, limit=limit)
        return await self.database.home.call(found)

    async def astep_ids(self, thread_id: str, beginning: str, most: int) -> list[str]:
        """Checkpoints of committed super-steps of a thread whose ids begin so, in their order; at most so many."""
        found = listings.step_ids(self.database, usable_thread(thread_id), usable(beginning, "The checkpoint id"), most)
        return await self.database.home.call(found)

    async def alatest_run(self, thread_id: str) -> LatestRun:
        """What the thread's latest run did and cost."""
        return await self.database.home.call(listings.latest_run(self.database, self._key(), usable_thread(thread_id)))

    async def awithdrawn(self, thread_id: str) -> int:
        """How many questions to a human of a thread were withdrawn because their facts had moved."""
        return await self.database.home.call(listings.withdrawn(self.database, thread_id))

    async def acount(self) -> int:
        """How many threads there are."""
        return await self.database.home.call(retention.count(self.database))

    async def asizes(self, most: int = 10) -> Sizes:
        """How much room threads take, and which are the largest."""
        return await self.database.home.call(retention.sizes(self.database, most))

    async def ametrics(
        self,
        *,
        since: timedelta | datetime = DAY,
        graph: str | None = None,
        most_steps: int = 100_000,
        most_rows: int | None = None,
    ) -> Metrics:
        """What was measured: the measures of coherence, super-steps, calls of models, how flows ended.

        Args:
            since: from this moment on, or for so long.
            graph: only threads of this graph.
            most_steps: measures of coherence are those of so many super-steps at most: the latest.
            most_rows: so many entries at most of each list of them: the worst.

        Raises:
            ConfigError: a moment without a time zone, or a negative time.
        """
        from superstep.checkpointer.coherence.report import metrics

        found = metrics(self.database, since=since, graph=graph, most_steps=most_steps, most_rows=most_rows)
        return await self.database.home.call(found)

    async def adeployment_health(self, *, seconds: float) -> list[DeploymentHealth]:
        """How deployments of models did in the last `seconds`, by the records of their calls."""
        return await self.database.home.call(deployment_health(self.database, seconds=seconds))

    async def afinished(self, most: int, *, since: timedelta | datetime = DAY, graph: str | None = None) -> list[str]:
        """Threads whose last run has completed since this moment, or for so long: any so many of them."""
        from superstep.checkpointer.coherence import again

        found = again.finished_threads(self.database, since=since, graph=graph, most=most)
        return await self.database.home.call(found)

    async def alast_input(self, thread_id: str) -> str | None:
        """The checkpoint that the thread's latest run began with."""
        found = listings.last_input(self.database, usable_thread(thread_id))
        return await self.database.home.call(found)

    async def aactivity(self, most: int = 20) -> Activity:
        """What goes on right now: at most so many of the flows that run, conflicts, what models cost."""
        return await self.database.home.call(activity.activity(self.database, most))

    async def atraceparent(self, thread_id: str) -> str | None:
        """Which trace the thread's latest run belongs to, as a W3C traceparent, if telemetry was on then."""
        return await self.database.home.call(listings.traceparent(self.database, usable_thread(thread_id)))

    async def adecided(self, thread_id: str, after: str, but: Collection[str] = ()) -> Decided:
        """What a thread has decided after a checkpoint, some super-steps left out. See `Decided`."""
        from superstep.checkpointer.coherence import again

        return await self.database.home.call(again.decided_after(self.database, thread_id, after, but))

    async def anote_reconciliation(
        self, thread_id: str, checkpoint_id: str, graph: str | None, channels: Sequence[str], paid: int, reused: int
    ) -> None:
        """Keep for `ametrics` that a thread has decided again: in which channels otherwise, and what that cost."""
        from superstep.checkpointer.coherence import again

        values = (thread_id, checkpoint_id, graph, bool(channels), list(channels), paid, reused)
        await self.database.home.call(again.note(self.database, values))

    async def asweep(self, rules: Retention, *, dry_run: bool = False) -> Swept:
        """Delete old threads, or their history, beside live flows; with `dry_run` only say what that would be.

        Takes no thread that is run, nor one that waits for a human's answer unless its rule says so.

        Raises:
            ConfigError: a rule keeps latest states, which only a `TransactionalSaver` can find.
            ValueNotAuthentic: likewise, and threads are encrypted with another key. What came before is done.
        """
        return await self.database.home.call(retention.sweep(self.database, self._key(), rules, dry_run=dry_run))

    async def amemories(
        self,
        namespace: Sequence[str] = (),
        *,
        query: str | None = None,
        limit: int = 50,
        offset: int = 0,
        as_of: datetime | None = None,
    ) -> list[Memory]:
        """Items of the long-term memory in a namespace and below, with their origins; never one that has expired.

        Args:
            namespace: the beginning of their namespaces; empty for all.
            query: the nearest to this text first; without, the latest.
            limit: how many at most.
            offset: after how many.
            as_of: as it was at this moment.

        Raises:
            MemoryInvalid: the namespace or the moment is not one.
            ConfigError: a query, and no embedder is set.
            ExtensionMissing: a query, and the database has no pgvector.
        """
        from superstep.checkpointer.collections.embedder import TextEmbedder
        from superstep.checkpointer.memory import listings
        from superstep.checkpointer.memory.options import checked_moment, now
        from superstep.checkpointer.memory.queries import Time

        embedder = getattr(self, "embedder", None) or TextEmbedder()
        vector = await embedder.embed(query) if query else None
        moment = checked_moment(as_of)
        time = Time(moment, moment or now())
        found = listings.memories(self.database, namespace, time, vector, (limit, offset))
        return await self.database.home.call(found)

    def _key(self) -> SerializerProtocol | None:
        """What reads encrypted columns: the serializer of a saver."""
        return getattr(self, "serde", None)
