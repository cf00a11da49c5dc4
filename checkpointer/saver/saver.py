"""`TransactionalSaver`: LangGraph's checkpointer interface over the rooms below.

Used with plain LangGraph it already gives every guarantee except retrying: a conflict is raised as `StepConflict`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from superstep.checkpointer.calls import memo
from superstep.checkpointer.commit import task_results, traced
from superstep.checkpointer.commit.barrier import Barrier
from superstep.checkpointer.commit.group import Group
from superstep.checkpointer.commit.outside import before_writes, put_from_outside
from superstep.checkpointer.commit.queries import NewCheckpoint
from superstep.checkpointer.database.database import Database
from superstep.checkpointer.langgraph import typed_saver
from superstep.checkpointer.langgraph.codec import checkpoint_row
from superstep.checkpointer.langgraph.encryption import Where, encrypts, sealed_text
from superstep.checkpointer.langgraph.ids import namespace_of, thread_of, usable_thread
from superstep.checkpointer.langgraph.keys import by_namespace, run_key
from superstep.checkpointer.langgraph.metadata import json_text, metadata_of
from superstep.checkpointer.langgraph.serializer import strict
from superstep.checkpointer.langgraph.versions import next_version
from superstep.checkpointer.saver.effects import EffectsOfSaver
from superstep.checkpointer.saver.holding import held_at_most, held_idle
from superstep.checkpointer.saver.lifecycle import Lifetime
from superstep.checkpointer.saver.parked import ParkedThreads
from superstep.checkpointer.saver.shared_values import SharedValues
from superstep.checkpointer.saver.stored_threads import StoredThreads
from superstep.checkpointer.saver.sync import SyncBridge
from superstep.checkpointer.shared.channel import resolved_in
from superstep.checkpointer.threads import claim, delta_history, history, looking, maintenance
from superstep.checkpointer.threads.current import current_step
from superstep.checkpointer.threads.digest_key import digest_key
from superstep.checkpointer.threads.endings import Ending
from superstep.checkpointer.threads.registry import Registry
from superstep.checkpointer.threads.run import Run
from superstep.runtime.faults import NoActiveStep
from superstep.runtime.masking import storable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import asyncpg
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        DeltaChannelHistory,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.collections.catalog import Collections
    from superstep.checkpointer.collections.collection import Collection
    from superstep.checkpointer.collections.embedder import TextEmbedder
    from superstep.checkpointer.database.server import Server
    from superstep.checkpointer.langgraph.codec import CheckpointRow
    from superstep.checkpointer.memory.store import MemoryStore
    from superstep.checkpointer.step.step import Step

__all__ = ["TransactionalSaver"]


class TransactionalSaver(
    EffectsOfSaver, StoredThreads, SharedValues, ParkedThreads, SyncBridge, typed_saver.TypedSaver
):
    """A LangGraph checkpointer whose checkpoints commit together with what their super-step read and wrote.

    Safe to share by any number of concurrent flows. Use `from_conn_string` as a context manager (`async with`, or
    `with` for programs without an event loop), or give it an asyncpg pool of yours.

    State is stored as msgpack, strictly: no pickle, and on loading only LangGraph's, LangChain's and plain Python types
    are rebuilt, and the pydantic models, dataclasses, enums and named tuples that the schemas of the graph name. What
    would not come back as itself is refused when it is stored. Give `serde` a `JsonPlusSerializer` with an allow-list
    for classes that no schema names, or an `EncryptedSerializer`.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        schema: str = "runtime",
        hold_idle: float | str = 0.25,
        hold_max: float | None = None,
        serde: SerializerProtocol | None = None,
        own_pool: bool = False,
        server: Server | None = None,
    ) -> None:
        """Use an open pool. Call on the event loop that the pool belongs to.

        Args:
            pool: stays the caller's to close.
            schema: for the saver's own tables.
            hold_idle: see `from_conn_string`.
            hold_max: see `from_conn_string`.
            serde: see the class.
            own_pool: no other code uses the pool, so its connections may be kept between uses. Otherwise each use pays
                for the pool's reset query, a round trip (unless the pool was made with `reset=`).
            server: where the pool connects to, if that is known. Behind a proxy that gives each transaction another
                session, such as pgbouncer in transaction mode, a pool of yours needs `statement_cache_size=0`.
        """
        typed_saver.TypedSaver.__init__(self, serde=serde or strict())
        # Graphs run with clones that know their types: the clones share these.
        database = Database(
            pool,
            schema=schema,
            hold_idle=held_idle(hold_idle),
            hold_max=held_at_most(hold_idle, hold_max),
            own_pool=own_pool,
            server=server,
        )
        StoredThreads.__init__(self, database)
        self.runs = Registry(self.database)
        self._group = Group(self.database)
        self._stores: list[MemoryStore] = []
        memo.install()
        typed_saver.install()

    @classmethod
    def from_conn_string(
        cls,
        url: str | None = None,
        *,
        schema: str = "runtime",
        pool_min: int = 1,
        pool_max: int = 10,
        hold_idle: float | str = 0.25,
        hold_max: float | None = None,
        serde: SerializerProtocol | None = None,
    ) -> Lifetime[Self]:
        """A saver with a pool of its own, as a context manager.

        Args:
            url: of a PostgreSQL 14 or newer; `None` is the embedded one.
            schema: for the saver's own tables.
            pool_min: connections kept open.
            pool_max: connections at most.
            hold_idle: seconds a super-step keeps its transaction between reads; "forever" or 0.
            hold_max: seconds after which a super-step changes its transaction for a new one in any case; one second if
                nothing is said, and never with `hold_idle="forever"`.
            serde: see the class.

        Raises:
            DatabaseUnavailable: on entering, with the reason and what to do.
        """

        async def build(pool: asyncpg.Pool[asyncpg.Record], server: Server) -> Self:
            more: dict[str, Any] = {"hold_idle": hold_idle, "hold_max": hold_max, "serde": serde, "server": server}
            return cls(pool, schema=schema, own_pool=True, **more)

        held_idle(hold_idle)
        held_at_most(hold_idle, hold_max)
        return Lifetime(build, url=url, pool_min=pool_min, pool_max=pool_max)

    @property
    def unwrapped(self) -> Self:
        """The saver itself. Servers put adapters around savers that forward attributes: this one leads inside."""
        return self

    @property
    def embedder(self) -> TextEmbedder:
        """What embeds texts for `nearest(text=...)`; set its `own` to have another one than the process."""
        return self.runs.embedder

    @property
    def store(self) -> MemoryStore:
        """Long-term memory that threads share: a LangGraph `BaseStore`, for `builder.compile(store=saver.store)`."""
        if not self._stores:  # flows without memory do not load it
            from superstep.checkpointer.memory.store import MemoryStore

            self._stores.append(MemoryStore.of(self.runs, encrypts=encrypts(self.serde)))
        return self._stores[0]

    @property
    def collections(self) -> Collections:
        """The collections of texts with embeddings: making, finding, listing and dropping them."""
        from superstep.checkpointer.collections.catalog import Collections

        return Collections(self.database, self.embedder, self.runs.collections, self._step)

    async def acollection(self, name: str, *, dimensions: int, **more: Any) -> Collection:
        """A collection of texts with embeddings, made unless it is there. See `Collections.create`."""
        return await self.collections.create(name, dimensions=dimensions, **more)

    def _step(self) -> Step | None:
        """The step of the task that is running here, if it is one of this saver's."""
        try:
            step = current_step()
        except NoActiveStep:
            return None
        return step if step.is_in(self.database) else None

    async def _close(self) -> None:
        for store in self._stores:
            await store.aclose()
        await self.runs.close()
        await super()._close()

    def get_next_version(self, current: str | None, channel: None) -> str:
        """A version greater than `current`, and different from what a fork of the same checkpoint would get."""
        return next_version(current)

    # -- loading -------------------------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """A checkpoint with its pending writes. Loading it to run the thread also takes the thread over.

        Raises:
            ThreadMismatch: the run is of another graph than the thread.
            ConfigError: durability "exit", and results that are stored with the thread rest on facts or staged writes.
        """
        found = await self.database.home.call(claim.load(self.runs, self.serde, config, asyncio.current_task()))
        looking.looked(config, found)
        return found

    def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first, that match thread, namespace, id and metadata.

        A value of `filter` finds the metadata that the same value was stored as.

        Raises:
            ValueNotSerializable: a value of `filter` has no form in JSON, so nothing can have been stored as it.
            ConfigError: PostgreSQL cannot hold an id.
        """
        key = run_key(config["configurable"]) if config else None
        run = self.runs.find(key, thread_of(config["configurable"])) if config and key else None
        if run is not None and config is not None:
            run.namespaces[namespace_of(config["configurable"])].loaded = True
        return history.list_checkpoints(self.database, self.serde, config, filter, before, limit)

    # -- saving --------------------------------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Commit a checkpoint; at the end of a super-step together with all that the step read and wrote.

        Raises:
            StepConflict: facts of the step have changed; results that still hold were kept.
            StagedWriteFailed: the database rejected a staged write.
            StaleRun: the thread has another owner, or the parent is not its head any more.
            ValueNotSerializable: a value would not come back as itself, or metadata have no form in JSON. Nothing was
                stored.
            ConfigError: PostgreSQL cannot hold an id.
        """
        conf = config["configurable"]
        thread_id, ns = thread_of(conf), namespace_of(conf)
        full = metadata_of(config, metadata)
        if parents := full.get("parents"):
            full["parents"] = by_namespace(parents)
        run = self._known(conf, thread_id)
        traced.keep_trace(run, ns, full)
        try:
            where = Where(thread_id, ns, checkpoint["id"])
            key = await self.database.home.call(digest_key(self.database, self.serde)) if encrypts(self.serde) else None
            standing = await delta_history.standing_snapshots(self.database, where, checkpoint, metadata, new_versions)
            held = run.namespaces[ns].held if run is not None else {}
            row, after = checkpoint_row(self.serde, checkpoint, full, new_versions, where, key, standing, held)
            if run is None:
                new = NewCheckpoint(thread_id, ns, checkpoint["id"], conf.get("checkpoint_id"), row)
                await self._put_outside(config, new, metadata)
            else:
                await self.database.home.call(self._put(run, conf, ns, checkpoint, row, metadata.get("source")))
                run.namespaces[ns].hold(after)
        except BaseException as e:
            if run is not None:
                run.namespaces[ns].fail(e)
            raise
        place = {"thread_id": conf["thread_id"], "checkpoint_ns": ns, "checkpoint_id": checkpoint["id"]}
        stored_as: RunnableConfig = {"configurable": place}
        if run is None:
            looking.stored(config, stored_as)
        return stored_as

    async def _put(
        self,
        run: Run,
        conf: Mapping[str, Any],
        ns: str,
        checkpoint: Checkpoint,
        row: CheckpointRow,
        source: str | None,
    ) -> None:
        parent_id = conf.get("checkpoint_id")
        if source == "fork":
            run.namespaces[ns].forked(checkpoint["id"], parent_id)
        if source == "input" and ns == "":
            run.provenance.begin()
        nodes = run.ran(ns, parent_id, checkpoint)
        barrier = Barrier(run, ns, checkpoint["id"], parent_id, row, source == "loop", nodes, group=self._group)
        barrier.resolved = resolved_in(checkpoint["channel_values"], row.new_channels)
        if barrier.is_one_statement:
            await traced.committed(barrier)
        else:  # cancelling the run must not tear a commit apart: it finishes, then the cancellation goes on
            await self.database.home.shielded(traced.committed(barrier))

    async def _put_outside(self, config: RunnableConfig, new: NewCheckpoint, metadata: CheckpointMetadata) -> None:
        goes_on = metadata.get("source") == "loop" and bool(new.parent_id)  # of what is no run: a script, another saver
        latest = goes_on or looking.continues(config)
        await self.database.home.call(put_from_outside(self.database, self.serde, new, metadata, latest=latest))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task produced, with the facts it rests on. Durable when it returns.

        Raises:
            StaleRun: the thread has another owner. Nothing was stored.
            ValueNotSerializable: a value would not come back as itself. Nothing was stored.
        """
        conf = config["configurable"]
        thread_id, place = thread_of(conf), (namespace_of(conf), conf["checkpoint_id"])
        run = self._known(conf, thread_id)
        if run is None and looking.continues(config):
            await self.database.home.call(before_writes(self.database, thread_id, *place))
        await self.database.home.call(
            task_results.save_result(
                run or Run.outside(self.database, thread_id, self.serde),
                self.serde,
                place,
                writes,
                task_id,
                task_path,
            )
        )

    def _known(self, conf: Mapping[str, Any], thread_id: str) -> Run | None:
        """The run that a call of LangGraph's belongs to; `None` if it comes from outside any run.

        Raises:
            StaleRun: it belongs to a run that has ended.
        """
        key = run_key(conf)
        return self.runs.of(key, thread_id) if key is not None else None

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread with all that belongs to it."""
        await self.database.home.call(maintenance.delete_threads(self.database, [usable_thread(thread_id)]))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs, by the `run_id` of their metadata."""
        names = [json_text(str(each)) for each in run_ids]
        await self.database.home.call(maintenance.delete_runs(self.database, names))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with its whole history to a new id."""
        await self.database.home.call(
            maintenance.copy_thread(
                self.database, self.serde, usable_thread(source_thread_id), usable_thread(target_thread_id)
            )
        )

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep only what the latest checkpoint of each namespace needs, or delete the threads ("delete")."""
        threads = list(map(usable_thread, thread_ids))
        await self.database.home.call(maintenance.prune(self.database, self.serde, threads, strategy))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What rebuilds delta channels: their writes along the parent chain, and the snapshot they start from."""
        return await self.database.home.call(delta_history.delta_history(self.database, self.serde, config, channels))

    async def afinish(self, thread_id: str, key: object, status: str, error: str | None) -> None:
        """Record how a run ended, unless a later run has the thread, and release what it still holds."""
        await self.database.home.call(self._finish(thread_id, key, status, error))

    async def _finish(self, thread_id: str, key: object, status: str, error: str | None) -> None:
        run = self.runs.find(key, thread_id)
        await self.runs.end(key)
        self.runs.turns.let_go(thread_id)
        if run is None or run.token is None:
            return
        said = None if error is None else storable(error)
        hidden = None if said is None else sealed_text(self.serde, said, "error", thread_id)
        await self.runs.endings.record(Ending(thread_id, run.token, status, hidden))
