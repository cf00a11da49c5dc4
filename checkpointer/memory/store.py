"""`MemoryStore`: LangGraph's `BaseStore` over the rooms below, and what it has beyond that."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from langgraph.store.base import NOT_PROVIDED, BaseStore

from superstep.checkpointer.memory import queries
from superstep.checkpointer.memory.batch import perform, prepare
from superstep.checkpointer.memory.here import here, refuse_blocking
from superstep.checkpointer.memory.indexing import Index
from superstep.checkpointer.memory.namespaces import checked_key, checked_namespace
from superstep.checkpointer.memory.options import (
    Options,
    checked_history,
    checked_moment,
    checked_same,
    checked_ttl,
    checked_ttl_config,
    now,
)
from superstep.checkpointer.memory.queries import NewVersion
from superstep.checkpointer.memory.rejections import explained
from superstep.checkpointer.memory.rows import MemoryVersion
from superstep.checkpointer.memory.sweeper import Sweeper, sweep
from superstep.checkpointer.memory.values import content_key, value_text
from superstep.checkpointer.memory.writing import execute, in_transaction
from superstep.runtime.faults import ConfigError, MemoryInvalid, ReadFailed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from langgraph.store.base import NotProvided, Op, Result, TTLConfig

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.memory.here import Here
    from superstep.checkpointer.memory.queries import Statement
    from superstep.checkpointer.threads.registry import Registry

__all__ = ["MemoryStore"]

T = TypeVar("T")

_SWEEP_MINUTES = 5.0
_SAME = 0.05


@dataclass(slots=True)
class _Shared:
    """What a store has in common with those that were configured from it."""

    runs: Registry
    encrypts: bool
    sweepers: list[Sweeper] = field(default_factory=list)


class MemoryStore(BaseStore):
    """Long-term memory that threads share, in the database of a saver. `saver.store` is one.

    Inside a super-step of the saver's, reads see the step's snapshot and are facts of the task, and what is put or
    deleted is staged: it commits with the checkpoint or not at all, and a node that runs again leaves nothing of the
    execution before. The task sees its own puts and deletes. Outside of a super-step, and in graphs that run without
    this saver, a batch is one transaction that commits at once.

    Safe to share by any number of flows, loops and threads. Synchronous methods block, and are refused on the event
    loop of the saver.
    """

    supports_ttl = True

    def __init__(self, shared: _Shared, options: Options) -> None:
        self._shared = shared
        self._options = options
        self.ttl_config = options.ttl
        self._sweeper: Sweeper | None = None

    @classmethod
    def of(cls, runs: Registry, *, encrypts: bool) -> MemoryStore:
        """The store of a saver, with its embedder.

        Args:
            runs: where the saver's runs are registered.
            encrypts: whether the saver encrypts. The memory does not, so it must be told that this is meant.
        """
        return cls(_Shared(runs, encrypts), Options(Index(None, runs.embedder)))

    def configured(
        self,
        *,
        index: Mapping[str, Any] | bool | None = None,
        ttl: TTLConfig | None = None,
        history: timedelta | None = None,
        readable: bool | None = None,
    ) -> MemoryStore:
        """The same memory with other settings; `None` leaves one as it is.

        Args:
            index: LangGraph's, each part of which may be left out: `fields` that are embedded (default: the whole
                value), `embed` (default: the saver's embedder), `dims` to check. `False`: nothing is embedded, and
                what is searched for is ignored.
            ttl: LangGraph's: `default_ttl` and `sweep_interval_minutes` in minutes, `refresh_on_read`, `omit_expired`.
                Here the last is true unless it is said to be false.
            history: how long a version is kept that was replaced, was deleted or has expired; default 30 days. Of one
                item there are never more than a hundred.
            readable: items may be stored readable, although the saver encrypts.

        Raises:
            MemoryInvalid: a setting is not one.
        """
        changes: dict[str, Any] = {}
        if index is not None:
            changes["index"] = Index(index, self._shared.runs.embedder)
        if ttl is not None:
            changes["ttl"] = checked_ttl_config(ttl)
        if history is not None:
            changes["history"] = checked_history(history)
        if readable is not None:
            changes["readable"] = readable
        return MemoryStore(self._shared, replace(self._options, **changes))

    def as_of(self, moment: datetime) -> MemoryStore:
        """The memory as it was at a moment, to read: what is put there is refused.

        What had been replaced, deleted or expired longer than `history` ago is not there any more.

        Raises:
            MemoryInvalid: the moment has no time zone.
        """
        return MemoryStore(self._shared, replace(self._options, past=checked_moment(moment)))

    def shown(self) -> MemoryStore:
        """The same memory, whose reads are no facts: from the snapshot, but not validated when the step commits."""
        return MemoryStore(self._shared, replace(self._options, facts=False))

    # -- LangGraph's interface -----------------------------------------------------------------------------------

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """See `abatch`. Blocks the calling thread.

        Raises:
            NoActiveStep: called on the saver's event loop; also an `asyncio.InvalidStateError`.
        """
        return self._block(self._batch(list(ops), self._here(blocks=True)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Perform operations: all that read, then all that write; of several writes of one item the last counts.

        Raises:
            MemoryInvalid: one cannot be performed. None is.
            MemoryContended: outside of a super-step: others kept changing the same items. Nothing was stored.
            ExtensionMissing: a search by meaning in a database without pgvector.
            StepConflict: facts of the task have changed. Do not catch it: it makes the task run again.
        """
        return await self._batch(list(ops), self._here())

    async def _batch(self, ops: list[Op], here: Here | None) -> list[Result]:
        options, database = self._options, self._shared.runs.database
        batch = await prepare(ops, options, database.schema, here)
        return await self._performed(perform(batch, options, database, here), here)

    # -- remembering ---------------------------------------------------------------------------------------------

    async def aremember(
        self,
        namespace: tuple[str, ...],
        value: Mapping[str, Any],
        *,
        key: str | None = None,
        same: float | None = _SAME,
        index: Sequence[str] | bool | None = None,
        ttl: float | NotProvided | None = NOT_PROVIDED,
    ) -> str:
        """Store an item unless the namespace knows it already.

        That is decided when it is stored, in the transaction that commits the super-step: of any number of flows that
        remember the same thing at once, one item is left, and none of them runs again for it.

        Args:
            namespace: of the item. What says the same is looked for in this one, not below.
            value: as for `put`.
            key: of the item; by default one that is the same for the same value. An item with this key is the same
                memory, whatever it says.
            same: another item is the same memory if the cosine distance to it is not greater. An item with several
                vectors: if for each of the new ones it has one that near. `None`: only the key counts. Without
                embedder, and for what is not indexed, too.
            index: as for `put`.
            ttl: as for `put`; what has expired is not known any more.

        Returns:
            The key under which it is known. Inside a super-step, as far as can be told before the commit: another flow
            may be first.

        Raises:
            MemoryInvalid: the item cannot be stored.
            ExtensionMissing: `same` needs pgvector, which the database has not. Say `same=None`.
        """
        return await self._remember(namespace, value, key, same, index, ttl, self._here())

    def remember(
        self,
        namespace: tuple[str, ...],
        value: Mapping[str, Any],
        *,
        key: str | None = None,
        same: float | None = _SAME,
        index: Sequence[str] | bool | None = None,
        ttl: float | NotProvided | None = NOT_PROVIDED,
    ) -> str:
        """See `aremember`. Blocks the calling thread."""
        return self._block(self._remember(namespace, value, key, same, index, ttl, self._here(blocks=True)))

    async def _remember(
        self,
        namespace: Sequence[str],
        value: Mapping[str, Any],
        key: str | None,
        same: float | None,
        index: Sequence[str] | bool | None,
        ttl: float | NotProvided | None,
        here: Here | None,
    ) -> str:
        self._refuse_past()
        options, database = self._options, self._shared.runs.database
        labels, text = checked_namespace(namespace, writes=True), value_text(value)
        name = checked_key(labels, content_key(text) if key is None else key)
        minutes = checked_ttl((options.ttl or {}).get("default_ttl") if ttl is NOT_PROVIDED else ttl)
        checked_same(same)
        (vectors,) = await options.index.vectors([options.index.texts(value, index)])
        origin = here.origin() if here is not None else None
        new = NewVersion(labels, name, text, minutes, vectors, options.history.total_seconds(), origin, now())
        near = same if vectors.fields else None
        statement = queries.remember(database.schema, new, near)
        known = None if near is None else queries.twin(database.schema, labels, name, vectors, near)
        return await self._performed(self._stored(statement, known, here), here) or name

    async def _stored(self, statement: Statement, known: Statement | None, here: Here | None) -> str | None:
        if here is not None:
            found = await here.step.fetchval(known[0], *known[1], validate=False) if known else None
            here.step.stage(statement[0], *statement[1])
            return found

        async def work(conn: Connection) -> Any:
            await execute(conn, [statement])
            return await conn.fetchval(known[0], *known[1]) if known else None

        return await in_transaction(self._shared.runs.database, work)

    # -- versions ------------------------------------------------------------------------------------------------

    async def ahistory(self, namespace: tuple[str, ...], key: str) -> list[MemoryVersion]:
        """The versions of an item that are kept, the latest first, each with when it counted and who put it.

        Inside a super-step, what was committed before it; and no fact.
        """
        return await self._history(namespace, key, self._here())

    def history(self, namespace: tuple[str, ...], key: str) -> list[MemoryVersion]:
        """See `ahistory`. Blocks the calling thread."""
        return self._block(self._history(namespace, key, self._here(blocks=True)))

    async def _history(self, namespace: Sequence[str], key: str, here: Here | None) -> list[MemoryVersion]:
        database = self._shared.runs.database
        labels = checked_namespace(namespace)
        text, args = queries.versions(database.schema, labels, checked_key(labels, key))
        if here is not None:
            rows = await self._performed(here.step.fetch(text, *args, validate=False), here)
        else:
            rows = await self._performed(database.autocommit(lambda conn: conn.fetch(text, *args)), here)
        return [MemoryVersion.of_row(row) for row in rows]

    async def aforget(self, namespace: tuple[str, ...], key: str | None = None) -> None:
        """Delete an item with all its versions; or, without a key, all items of the namespace and below.

        `adelete` ends an item, and keeps what it said as long as `history` says. Of this, nothing is left. Inside a
        super-step it is staged as other writes are.

        Raises:
            MemoryInvalid: neither a namespace nor a key: that would be all there is.
        """
        await self._forget(namespace, key, self._here())

    def forget(self, namespace: tuple[str, ...], key: str | None = None) -> None:
        """See `aforget`. Blocks the calling thread."""
        self._block(self._forget(namespace, key, self._here(blocks=True)))

    async def _forget(self, namespace: Sequence[str], key: str | None, here: Here | None) -> None:
        self._refuse_past()
        labels = checked_namespace(namespace)
        if not labels:
            raise MemoryInvalid("forget() needs a namespace of at least one label: it leaves nothing of it.")
        name = None if key is None else checked_key(labels, key)
        statement = queries.forget(self._shared.runs.database.schema, labels, name)
        await self._performed(self._stored(statement, None, here), here)

    # -- sweeping ------------------------------------------------------------------------------------------------

    async def sweep(self) -> int:
        """End the time of items that have expired, and delete versions that ended longer than `history` ago.

        Safe beside live flows, and in any number of processes.

        Returns:
            How many items had expired.
        """
        database = self._shared.runs.database
        return await self._performed(sweep(database, self._options.history), None)

    async def sweep_ttl(self) -> int:
        """LangGraph's name of `sweep`."""
        return await self.sweep()

    async def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> asyncio.Task[None]:
        """Sweep in the background every so many minutes (5, if nothing is configured), until the saver closes.

        Returns:
            The task on the saver's event loop; the same one if it has been started.
        """
        minutes = sweep_interval_minutes or (self._options.ttl or {}).get("sweep_interval_minutes") or _SWEEP_MINUTES
        return await self._shared.runs.database.home.call(self._start(checked_ttl(minutes) or _SWEEP_MINUTES))

    async def _start(self, minutes: float) -> asyncio.Task[None]:
        if self._sweeper is None:
            self._sweeper = Sweeper(self.sweep)
            self._shared.sweepers.append(self._sweeper)
        return self._sweeper.start(minutes)

    async def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - LangGraph's name
        """End the sweeps in the background; whether they have ended, after so many seconds at most."""
        if self._sweeper is None:
            return True
        return await self._shared.runs.database.home.call(self._sweeper.stop(timeout))

    async def aclose(self) -> None:
        """Stop what runs in the background, for all stores that were configured from this one."""
        for each in self._shared.sweepers:
            await each.stop()

    # -- parts ---------------------------------------------------------------------------------------------------

    def _here(self, *, blocks: bool = False) -> Here | None:
        """Where the calling code is, once the call is found to be allowed."""
        if self._shared.encrypts and not self._options.readable:
            raise ConfigError(
                "This saver encrypts, and the memory does not: filters and searches have to read it. If items may lie "
                "readable in the database, say so: saver.store.configured(readable=True)."
            )
        if blocks:
            refuse_blocking(self._shared.runs.database.home)
        return here(self._shared.runs)

    def _refuse_past(self) -> None:
        if self._options.past is not None:
            raise MemoryInvalid("What the memory said in the past can be read, not changed.")

    def _block(self, work: Coroutine[Any, Any, T]) -> T:
        return self._shared.runs.database.home.block(work)

    async def _performed(self, work: Coroutine[Any, Any, T], here: Here | None) -> T:
        """What work comes to, on the saver's loop; a step finds its way there by itself."""
        database = self._shared.runs.database
        try:
            return await (work if here is not None else database.home.call(work))
        except (ReadFailed, asyncpg.PostgresError) as e:
            found = await database.home.call(explained(e, database))
            if found is e:
                raise
            raise found from e
