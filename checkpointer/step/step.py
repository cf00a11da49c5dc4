"""`Step`: what a node, a tool, or anything they await uses to read and write inside its super-step."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.collections.nearest import (
    COLUMN_TYPE,
    check_nearest,
    nearest_statement,
    table_of,
    vector_of,
    wrong_dimensions,
)
from superstep.checkpointer.database.vectors import WHERE_VECTORS_ARE, vectors_missing
from superstep.checkpointer.step.read_set import Staged
from superstep.checkpointer.step.statements import changes_session, ends_transaction, switches_protocol
from superstep.checkpointer.step.stored_args import copied
from superstep.runtime.faults import ReadFailed, StatementRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.collections.embedder import TextEmbedder
    from superstep.checkpointer.collections.nearest import Embedding
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.loop import HomeLoop
    from superstep.checkpointer.step.superstep import SuperStep
    from superstep.checkpointer.step.task import Attempt

__all__ = ["Step", "SyncStep"]


class Step:
    """One task's view of its super-step.

    Reads of all tasks of the super-step see one database state. Staged writes are invisible everywhere until the
    super-step commits, and leave nothing behind if the task fails, is interrupted or runs again.

    Re-run contract: a node may run again from its start after a conflict, a crash or an interrupt. What it does
    through its `Step` and through chat models is then consistent by itself; any other effect (a mail sent, a file
    written) happens again.
    """

    def __init__(self, step: SuperStep, attempt: Attempt, database: Database, embedder: TextEmbedder) -> None:
        self._step = step
        self._attempt = attempt
        self._database = database
        self._embedder = embedder

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
        return self._step.owner.thread_id

    @property
    def schema(self) -> str:
        """The Postgres schema of the runtime's own tables."""
        return self._database.schema

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
        return await self._database.home.call(self._step.read(self._attempt, sql, args, validate=validate))

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
        validate: bool = True,
    ) -> list[asyncpg.Record]:
        """The `k` rows of a table nearest to a text or an embedding, by cosine distance, in the step's snapshot.

        Args:
            collection: a table, optionally `schema.table`, with columns id, content, metadata and embedding.
            text: embedded by the saver's embedder. Give this or `embedding`.
            embedding: a vector of the column's dimensions: numbers, a numpy array, or what a read of one returned.
            k: how many rows at most; at least 1. There are fewer only if fewer match: what an index does not find is
                looked for without it.
            where: an SQL condition with `$1`, `$2`, … for `args`. It is SQL text: never build it from input.
            args: values for `where`.
            validate: see `fetch`.

        Returns:
            Rows with `id`, `content`, `metadata` and `distance`, nearest first. Never one whose embedding is NULL or
            zero, which has no direction.

        Raises:
            ConfigError: the embedding is no vector of finite numbers.
            ExtensionMissing: the database has no pgvector.
            ReadFailed: it has other dimensions than the column; and as in `fetch`.
        """
        check_nearest(collection, text=text, embedding=embedding, k=k)
        given = embedding if embedding is not None else await self._embedder.embed(text or "")
        vector = vector_of(collection, given)
        sql, values = nearest_statement(collection, vector, k=k, where=where, args=args)
        try:
            return await self.fetch(sql, *values, validate=validate)
        except ReadFailed as e:
            raise await self._not_searched(e, collection, vector) from e

    async def _not_searched(self, error: ReadFailed, collection: str, vector: Sequence[float]) -> Exception:
        """What to raise for a search that the database rejected."""
        if error.sqlstate == "42704":  # an undefined object: the type `vector`, unless the condition names another one
            there = await self.fetchrow(WHERE_VECTORS_ARE)
            return (there and vectors_missing(there)) or error
        column = await self.fetchval(COLUMN_TYPE, table_of(collection)) if error.sqlstate == "22000" else None
        if column is None:
            return error
        text = wrong_dimensions(collection, vector, column)
        return ReadFailed(text, sql=error.sql, sqlstate=error.sqlstate)

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
        self._step.check(self._attempt)
        self._attempt.staged.append(Staged(sql, copied(args), expect_rows))

    def uses(self, what: str) -> None:
        """Record that this task used a named version of something, such as the prompt "verify@3".

        If the task's result becomes part of a commit, so does its name: in the `prompts` of the super-step's record.
        This says what was used; only what was read through the step is validated.
        """
        self._step.check(self._attempt)
        if what not in self._attempt.uses:
            self._attempt.uses.append(what)

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
        validate: bool = True,
    ) -> list[asyncpg.Record]:
        """See `Step.nearest`."""
        search = self._step.nearest(
            collection, text=text, embedding=embedding, k=k, where=where, args=args, validate=validate
        )
        return self._home.block(search)

    def uses(self, what: str) -> None:
        """See `Step.uses`."""
        self._step.uses(what)

    def stage(self, sql: str, *args: Any, expect_rows: int | None = None) -> None:
        """See `Step.stage`."""
        self._step.stage(sql, *args, expect_rows=expect_rows)
