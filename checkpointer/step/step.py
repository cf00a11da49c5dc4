"""`Step`: what a node, a tool, or anything they await uses to read and write inside its super-step."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.shared.declared import declaration, usable_place
from superstep.checkpointer.shared.queries import read
from superstep.checkpointer.shared.reductions import loaded, value_at
from superstep.checkpointer.step.derived_reads import DerivedReads
from superstep.checkpointer.step.emitting import Emits
from superstep.checkpointer.step.read_set import Observation, Reduction, Staged, digest_value
from superstep.checkpointer.step.spawning import Spawns
from superstep.checkpointer.step.statements import changes_session, ends_transaction, switches_protocol
from superstep.checkpointer.step.stored_args import copied
from superstep.checkpointer.step.value_bytes import NoExactForm
from superstep.runtime.faults import ConfigError, StatementRefused

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from decimal import Decimal

    import asyncpg

    from superstep.checkpointer.collections.embedder import TextEmbedder
    from superstep.checkpointer.collections.known import KnownCollections
    from superstep.checkpointer.collections.nearest import Embedding
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.loop import HomeLoop
    from superstep.checkpointer.derived.signals import IngestionPoint, Key, Signal
    from superstep.checkpointer.step.fact import Condense
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.step.task import Attempt

__all__ = ["Step", "SyncStep"]


class Step(DerivedReads, Emits, Spawns):
    """One task's view of its super-step.

    Reads of all tasks of the super-step see one database state. Staged writes are invisible everywhere until the
    super-step commits, and leave nothing behind if the task fails, is interrupted or runs again.

    Re-run contract: a node may run again from its start after a conflict, a crash or an interrupt. What it does
    through its `Step` and through chat models is then consistent by itself; any other effect (a mail sent, a file
    written) happens again.
    """

    def __init__(
        self,
        step: SuperStep,
        attempt: Attempt,
        database: Database,
        embedder: TextEmbedder,
        collections: KnownCollections,
    ) -> None:
        self._step = step
        self._attempt = attempt
        self._database = database
        self._embedder = embedder
        self._collections = collections

    @property
    def facts_changed(self) -> bool:
        """Whether this task is about to ask a human again.

        Because facts that its question was about have moved since, or the answer does not count: it was given to
        another question, or led to a staged write that the database rejected.
        """
        return self._step.asked_before(self._attempt.task_id)

    @property
    def thread_id(self) -> str:
        """The thread that the task runs for."""
        return self._step.owner.trial_of or self._step.owner.thread_id

    def is_in(self, database: Database) -> bool:
        """Whether it reads and writes that database."""
        return self._database is database

    @property
    def schema(self) -> str:
        """The Postgres schema of the runtime's own tables."""
        return self._database.schema

    @property
    def staged(self) -> Sequence[Staged]:
        """What this execution of the task has staged so far."""
        return tuple(self._attempt.staged)

    async def fetch(self, sql: str, *args: Any, validate: bool = True) -> list[asyncpg.Record]:
        """Rows of a read, as `asyncpg.Connection.fetch`.

        Args:
            sql: one statement that writes nothing.
            *args: its arguments.
            validate: the result is a fact: if it has changed when the super-step commits, the task runs again. With
                False it is only shown, to a model or a human: it comes from the snapshot of the task's other reads, and
                may be out of date when the super-step commits. What must hold then needs a read of its own.

        Raises:
            ReadRefused: the statement writes.
            ReadFailed: the database rejected it.
            StepConflict: what this task read before has changed. Do not catch it: it makes the task run again.
        """
        return await self._read(sql, args, validate, None)

    async def fetchrow(self, sql: str, *args: Any, validate: bool = True) -> asyncpg.Record | None:
        """The first row of a read, or `None`. The whole result counts as read. See `fetch`."""
        rows = await self.fetch(sql, *args, validate=validate)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *args: Any, column: int = 0, validate: bool = True) -> Any:
        """One value of the first row of a read, or `None`. See `fetch`."""
        row = await self.fetchrow(sql, *args, validate=validate)
        return None if row is None else row[column]

    async def nearest(
        self,
        collection: str,
        *,
        text: str | None = None,
        embedding: Embedding | None = None,
        k: int,
        where: str | None = None,
        args: Sequence[Any] = (),
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - what every store of vectors calls it
        hybrid: bool = False,
        validate: bool = True,
    ) -> list[asyncpg.Record]:
        """The `k` rows of a collection nearest to a text or an embedding, by cosine distance, in the step's snapshot.

        Of a collection of the saver's the fact is which rows are the nearest ones, and what they say: a row that is
        written elsewhere and is not among them changes nothing. Of a table it is what the search returns.

        Args:
            collection: a collection of the saver's (`saver.acollection`), or else a table, optionally `schema.table`,
                with columns id, content, metadata and embedding.
            text: embedded by the saver's embedder. Give this or `embedding`.
            embedding: a vector of the column's dimensions: numbers, a numpy array, or what a read of one returned.
            k: how many rows at most; at least 1. There are fewer only if fewer match: what an index does not find is
                looked for without it.
            where: an SQL condition with `$1`, `$2`, … for `args`. It is SQL text: never build it from input.
            args: values for `where`.
            filter: a filter on metadata, which may be built from input: see `collections.filters`.
            hybrid: of a collection: look for the words of the text too, and rank by both.
            validate: see `fetch`.

        Returns:
            Rows with `id`, `content`, `metadata` and `distance`, nearest first; with `hybrid` also `score`, greatest
            first. Never one whose embedding is NULL or zero, which has no direction.

        Raises:
            CollectionNotFound: there is no such collection or table. That is a fact.
            VectorInvalid: the embedding does not fit the collection, or is zero.
            DocumentInvalid: the filter is none.
            ConfigError: the embedding is no vector of finite numbers.
            ExtensionMissing: the database has no pgvector.
            ReadFailed: it has other dimensions than the table's column; and as in `fetch`.
        """
        from superstep.checkpointer.collections.nearest import check_nearest
        from superstep.checkpointer.step.nearest import Nearest, refuse_hybrid

        check_nearest(collection, text=text, embedding=embedding, k=k, hybrid=hybrid)
        nearest = Nearest(self._database, self._collections, self._read)
        found = await nearest.collection(collection)
        if found is None and hybrid:
            raise refuse_hybrid(collection)
        given = embedding if embedding is not None else await self._embedder.embed(text or "")
        more: dict[str, Any] = {"k": k, "where": where, "args": args, "filter_": filter, "validate": validate}
        if found is None:
            return await nearest.in_table(collection, given, **more)
        return await nearest.in_collection(found, given, text=text if hybrid else None, **more)

    async def _read(
        self, sql: str, args: Sequence[Any], validate: bool, condense: Condense | None
    ) -> list[asyncpg.Record]:
        def read() -> Coroutine[Any, Any, list[asyncpg.Record]]:
            return self._step.read(self._attempt, sql, tuple(args), validate=validate, condense=condense)

        trace = self._attempt.trace
        return await self._database.home.call(read() if trace is None else trace.read(sql, validate, read))

    def stage(self, sql: str, *args: Any, expect_rows: int | None = None) -> None:
        """Stage a write. It is applied at the barrier, in the transaction that commits the super-step.

        What it sets in the session (by functions such as set_config, temporary tables, advisory locks) ends with the
        super-step.

        Args:
            sql: one statement.
            *args: its arguments.
            expect_rows: the row count that the command must report; another one is a conflict, and the task runs again.

        Raises:
            StatementRefused: the statement controls the transaction, copies from or to the client, or is about the
                session.
        """
        if ends_transaction(sql):
            raise StatementRefused(
                f"stage() takes one statement that writes rows; {sql.strip()[:40]!r} would control the transaction, "
                f"which is the super-step's."
            )
        if switches_protocol(sql):
            raise StatementRefused(
                f"stage() takes one statement that writes rows; {sql.strip()[:40]!r} would make the server wait for "
                f"data from here, or send some. For many rows use arrays and unnest(), or copy_records_to_table in a "
                f"transaction of your own (saver.transaction())."
            )
        if changes_session(sql):
            raise StatementRefused(
                f"stage() takes one statement that writes rows; {sql.strip()[:40]!r} is about the session of a "
                f"connection, of which nothing is left when the super-step has committed."
            )
        self._stage(Staged(sql, copied(args), expect_rows))

    def _stage(self, staged: Staged) -> None:
        self._step.check(self._attempt)
        self._attempt.staged.append(staged)
        if self._step.owner.trial_of is not None:
            self._attempt.withheld += 1

    async def shared(self, name: str, key: str, *, validate: bool = True) -> Any:
        """A value that all threads share, in the step's snapshot.

        Args:
            name: as it was declared, see `superstep.reducers.shared`.
            key: which of the values of that name.
            validate: see `fetch`. An update that leaves the value as it is changes no fact.

        Returns:
            The value, as its model makes it; its default or `None` if it was never written to. It is a copy: change it
            by `reduce`.

        Raises:
            SharedUnknown: the name is not declared in this process.
            SharedOutdated: what is stored does not fit the declaration.
            StepConflict: see `fetch`.
        """
        declared = declaration(name)
        usable_place(name, key)
        sql, *args = read(self.schema, name, key)
        row = await self.fetchrow(sql, *args, validate=validate)
        if row is None:
            return declared.value(key, None, declared.version)
        text = loaded(value_at(self._step.seal, name, key), row["kind"], row["value"])
        return declared.value(key, text, row["form"])

    def reduce(self, name: str, key: str, update: Any) -> None:
        """Stage an update of a value that all threads share.

        It is merged at the barrier by the reducer that the name was declared with, in the transaction that commits the
        super-step and with the value as it is there. So whatever others have written meanwhile, nothing is lost and no
        node runs again, unless it has also read what has changed.

        Args:
            name: as it was declared, see `superstep.reducers.shared`.
            key: which of the values of that name; made if it is not there.
            update: what the reducer takes.

        Raises:
            UpdateInvalid: the reducer cannot merge it, or the model refuses it, whatever the value is. What only the
                value tells is a `StagedWriteFailed` of the commit.
            SharedUnknown: the name is not declared in this process.
        """
        document = declaration(name).update(key, update)
        self._stage(Reduction.of(name, key, document))

    def uses(self, what: str) -> None:
        """Record that this task used a named version of something, such as the prompt "verify@3".

        If the task's result becomes part of a commit, so does its name: in the `prompts` of the super-step's record.
        This says what was used; only what was read through the step is validated.
        """
        self._step.check(self._attempt)
        if what not in self._attempt.uses:
            self._attempt.uses.append(what)

    def observed(self, key: str, value: Any, *, as_of: datetime | None = None) -> None:
        """Note something that this task read elsewhere: in a cache, an index, an API. It is measured, and is no fact.

        If the task's result becomes part of a commit, so does the note: `runtime metrics` tells how far apart in time
        what super-steps and parallel tasks have seen of the same key was, and whether they saw different values.
        Nothing is validated, and nothing runs again, if the value has moved. Of the value a digest is kept.

        Args:
            key: what was read, such as "account:7": the same text wherever the same thing is meant.
            value: what was seen of it.
            as_of: the moment that the value is of, as its source says. Without one it is taken to be of now, by this
                machine's clock: what lags is then seen to lag only where its value differs.

        Raises:
            ConfigError: the value cannot be compared exactly, or the moment has no time zone.
            StepConflict: what this task read before has changed. Do not catch it: it makes the task run again.
        """
        self._step.check(self._attempt)
        if as_of is not None and as_of.tzinfo is None:
            raise ConfigError(f"observed({key!r}): as_of needs a time zone, such as datetime.now(UTC).")
        try:
            digest = digest_value(value)
        except NoExactForm as e:
            raise ConfigError(f"observed({key!r}): {e}.") from e
        moment = datetime.now(UTC) if as_of is None else as_of
        self._attempt.observed.append(Observation(key, digest, moment.timestamp()))

    @cached_property
    def sync(self) -> SyncStep:
        """The same methods for synchronous nodes. They block the calling thread, not the event loop."""
        return SyncStep(self, self._database.home)


class SyncStep:
    """`Step` for code that cannot await. See there for the guarantees."""

    def __init__(self, step: Step, home: HomeLoop) -> None:
        self._step = step
        self._home = home

    def fetch(self, sql: str, *args: Any, validate: bool = True) -> list[asyncpg.Record]:
        """See `Step.fetch`."""
        return self._home.block(self._step.fetch(sql, *args, validate=validate))

    def fetchrow(self, sql: str, *args: Any, validate: bool = True) -> asyncpg.Record | None:
        """See `Step.fetchrow`."""
        return self._home.block(self._step.fetchrow(sql, *args, validate=validate))

    def fetchval(self, sql: str, *args: Any, column: int = 0, validate: bool = True) -> Any:
        """See `Step.fetchval`."""
        return self._home.block(self._step.fetchval(sql, *args, column=column, validate=validate))

    def nearest(
        self,
        collection: str,
        *,
        text: str | None = None,
        embedding: Embedding | None = None,
        k: int,
        where: str | None = None,
        args: Sequence[Any] = (),
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - as in `Step`
        hybrid: bool = False,
        validate: bool = True,
    ) -> list[asyncpg.Record]:
        """See `Step.nearest`."""
        more: dict[str, Any] = {"where": where, "args": args, "filter": filter, "hybrid": hybrid, "validate": validate}
        search = self._step.nearest(collection, text=text, embedding=embedding, k=k, **more)
        return self._home.block(search)

    def signal(self, name: str, key: Key, *, at: datetime | None = None, validate: bool = True) -> Signal:
        """See `Step.signal`."""
        return self._home.block(self._step.signal(name, key, at=at, validate=validate))

    def level(
        self, name: str, key: Key, thresholds: Sequence[int | Decimal], *, of: str, at: datetime | None = None
    ) -> int:
        """See `Step.level`."""
        return self._home.block(self._step.level(name, key, thresholds, of=of, at=at))

    def ingestion(self, *, validate: bool = False) -> IngestionPoint:
        """See `Step.ingestion`."""
        return self._home.block(self._step.ingestion(validate=validate))

    def shared(self, name: str, key: str, *, validate: bool = True) -> Any:
        """See `Step.shared`."""
        return self._home.block(self._step.shared(name, key, validate=validate))

    def reduce(self, name: str, key: str, update: Any) -> None:
        """See `Step.reduce`."""
        self._step.reduce(name, key, update)

    def emit(self, topic: str, payload: Any, *, key: str | None = None) -> None:
        """See `Step.emit`."""
        self._step.emit(topic, payload, key=key)

    def spawn(self, graph: str, input: Any, **where: Any) -> str:  # noqa: A002 - as in `Step`
        """See `Step.spawn`."""
        return self._step.spawn(graph, input, **where)

    def result(self, child: str) -> Any:
        """See `Step.result`."""
        return self._home.block(self._step.result(child))

    def ask(self, value: Any, **terms: Any) -> Any:
        """See `Step.ask`."""
        return self._step.ask(value, **terms)

    def uses(self, what: str) -> None:
        """See `Step.uses`."""
        self._step.uses(what)

    def observed(self, key: str, value: Any, *, as_of: datetime | None = None) -> None:
        """See `Step.observed`."""
        self._step.observed(key, value, as_of=as_of)

    def stage(self, sql: str, *args: Any, expect_rows: int | None = None) -> None:
        """See `Step.stage`."""
        self._step.stage(sql, *args, expect_rows=expect_rows)
