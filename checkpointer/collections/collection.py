"""`Collection`: what a program does with one collection, in a super-step and outside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import asyncpg

from superstep.checkpointer.collections import queries
from superstep.checkpointer.collections.documents import as_documents, metadata_text
from superstep.checkpointer.collections.filters import narrowed
from superstep.checkpointer.collections.hybrid import hybrid_statement
from superstep.checkpointer.collections.indexing import build_index
from superstep.checkpointer.collections.nearest import check_nearest
from superstep.checkpointer.collections.search import Search
from superstep.checkpointer.collections.vectors import vector_text
from superstep.checkpointer.database.errors import is_serialization_failure
from superstep.checkpointer.database.retry import retry
from superstep.runtime.faults import CollectionNotFound, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from superstep.checkpointer.collections.definition import Definition
    from superstep.checkpointer.collections.documents import Document
    from superstep.checkpointer.collections.embedder import TextEmbedder
    from superstep.checkpointer.collections.nearest import Embedding
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["Collection", "InStep", "metadata_of", "not_found"]

T = TypeVar("T")

_AT_ONCE = 500  # rows in one transaction
_TRIES = 12


class InStep(Protocol):
    """The step of the task that is running, as `Step` is one."""

    async def fetch(self, sql: str, *args: Any, validate: bool = True) -> list[asyncpg.Record]:
        """Rows of a read, as a fact."""

    def stage(self, sql: str, *args: Any, expect_rows: int | None = None) -> None:
        """Stage a write."""

    async def nearest(
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
        """Search, as a fact."""


class Collection:
    """Texts with embeddings, found by meaning.

    In a super-step of the saver, what is read comes from the step's snapshot and is a fact, and what is added or
    deleted is staged. Elsewhere everything happens at once.

    Attributes:
        definition: its name, dimensions, precision, language and keys of metadata.
    """

    def __init__(
        self,
        definition: Definition,
        database: Database,
        embedder: TextEmbedder,
        step: Callable[[], InStep | None],
    ) -> None:
        self.definition = definition
        self._database = database
        self._embedder = embedder
        self._step = step

    @property
    def name(self) -> str:
        """What it is called."""
        return self.definition.name

    @property
    def table(self) -> str:
        """Its table, quoted, for SQL of yours: columns id, content, metadata, embedding, source, position, words."""
        return self.definition.table(self._database.schema)

    @staticmethod
    def metadata(row: asyncpg.Record) -> dict[str, Any]:
        """The metadata of a row that was found, which the driver gives as the text of their JSON."""
        return metadata_of(row)

    async def add(self, documents: Iterable[Document | Mapping[str, Any] | str]) -> list[str]:
        """Add documents, or replace those of the same ids. What has no embedding is embedded.

        Outside of super-steps they are committed some hundred at a time.

        Args:
            documents: texts, `Document`s, mappings with the names of a document's attributes, LangChain's documents.

        Returns:
            Their ids.

        Raises:
            VectorInvalid: an embedding is missing, of other dimensions, not finite, or zero. Nothing was added.
            DocumentInvalid: a document does not fit. Nothing was added.
            CollectionNotFound: it was dropped.
        """
        rows = await self._rows(as_documents(documents))
        sql = queries.put(self._database.schema, self.definition)
        if (step := self._step()) is not None:
            for row in rows:
                step.stage(sql, *row)
        else:
            for at in range(0, len(rows), _AT_ONCE):
                await self._write([(sql, rows[at : at + _AT_ONCE])])
        return [row[0] for row in rows]

    async def _rows(self, documents: Sequence[Document]) -> list[tuple[Any, ...]]:
        texts = [metadata_text(self.definition, each) for each in documents]
        bare = [each.content for each in documents if each.embedding is None]
        made = iter(await self._embedder.embed_all(bare)) if bare else iter(())
        rows: dict[str, tuple[Any, ...]] = {}
        for each, text in zip(documents, texts, strict=True):
            given = each.embedding if each.embedding is not None else next(made)
            vector = vector_text(self.definition, given, f"the embedding of document {each.id!r}")
            rows.pop(each.id, None)  # the last one of an id counts
            rows[each.id] = (each.id, each.content, text, vector, each.source, each.position)
        return list(rows.values())

    async def delete(self, ids: Iterable[str]) -> None:
        """Delete the documents of these ids; those that are not there are no matter."""
        sql, *args = queries.delete(self._database.schema, self.definition, ids)
        await self._change(sql, args)

    async def delete_source(self, source: str, *, keep: Iterable[str] = ()) -> None:
        """Delete the documents of a source, but those with the ids to keep."""
        sql, *args = queries.delete_source(self._database.schema, self.definition, source, keep)
        await self._change(sql, args)

    async def put_source(self, source: str, documents: Iterable[Document]) -> tuple[int, int]:
        """Let these be the documents of a source, in this order: a file, say, that has changed. In one transaction.

        What is there under its id already is taken to be the same and is not embedded again, so an id must say what the
        document says (`documents.content_id`).

        Returns:
            How many were added, and how many were there.

        Raises:
            VectorInvalid, DocumentInvalid, CollectionNotFound: see `add`. Nothing was changed.
        """
        wanted = {each.id: each for each in documents}
        there = {row["id"] for row in await self.get(wanted)}
        new = await self._rows([each for each in wanted.values() if each.id not in there])
        schema, of = self._database.schema, self.definition
        keep, *which = queries.delete_source(schema, of, source, wanted)
        order, *positions = queries.reposition(schema, of, {id_: each.position for id_, each in wanted.items()})
        changes: list[tuple[str, Sequence[tuple[Any, ...]]]] = [
            (keep, [tuple(which)]),
            (order, [tuple(positions)]),
            (queries.put(schema, of), new),
        ]
        if (step := self._step()) is not None:
            for sql, rows in changes:
                for row in rows:
                    step.stage(sql, *row)
        else:
            await self._write(changes)
        return len(new), len(there)

    async def get(self, ids: Iterable[str]) -> list[asyncpg.Record]:
        """The documents of these ids that are there, by id: id, content, metadata, source, position."""
        sql, *args = queries.get(self._database.schema, self.definition, ids)
        return await self._read(sql, args)

    async def count(self) -> int:
        """How many documents there are."""
        (row,) = await self._read(queries.count(self._database.schema, self.definition), [])
        return int(row[0])

    async def sources(self) -> dict[str, list[str]]:
        """Ids of the documents of each source."""
        rows = await self._read(queries.sources(self._database.schema, self.definition), [])
        return {row["source"]: list(row["ids"]) for row in rows}

    async def search(
        self,
        text: str | None = None,
        *,
        embedding: Embedding | None = None,
        k: int = 4,
        where: str | None = None,
        args: Sequence[Any] = (),
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - what every store of vectors calls it
        hybrid: bool = False,
    ) -> list[asyncpg.Record]:
        """The documents nearest to a text or an embedding. See `Step.nearest`, which this is in a super-step."""
        if (step := self._step()) is not None:
            return await step.nearest(
                self.name, text=text, embedding=embedding, k=k, where=where, args=args, filter=filter, hybrid=hybrid
            )
        check_nearest(self.name, text=text, embedding=embedding, k=k, hybrid=hybrid)
        given = embedding if embedding is not None else await self._embedder.embed(text or "")
        vector = vector_text(self.definition, given)
        condition, values = narrowed(where, args, filter, self.definition)
        search = Search(self.definition, self._database.schema, vector, k, condition, values)
        if hybrid:
            return await self._read(*hybrid_statement(search, text or ""))
        return await self._read(search.rows, search.values)

    async def index(self, *, force: bool = False) -> bool:
        """Build an index (HNSW) if there are enough rows that it pays. Others go on reading and writing meanwhile.

        Until there is one, a search looks at all rows.

        Args:
            force: build it however few rows there are.

        Returns:
            Whether there is one now.

        Raises:
            ConfigError: an index takes no vectors of so many dimensions.
            DatabaseUnavailable: it waited too long for transactions that were under way. Try again.
        """
        return await self._database.home.call(build_index(self._database, self.definition, force=force))

    def here(self) -> Collection:
        """The same, for work that is handed to another task or thread: in the step of the caller, if there is one."""
        step = self._step()
        return Collection(self.definition, self._database, self._embedder, lambda: step)

    def block(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what a method of `here()` returns, and block the calling thread until it is done.

        Raises:
            NoActiveStep: called on the event loop of the saver.
        """
        return self._database.home.block(work)

    async def _change(self, sql: str, args: Sequence[Any]) -> None:
        if (step := self._step()) is not None:
            step.stage(sql, *args)
        else:
            await self._write([(sql, [tuple(args)])])

    async def _read(self, sql: str, args: Sequence[Any]) -> list[asyncpg.Record]:
        if (step := self._step()) is not None:
            return await step.fetch(sql, *args)

        async def look(conn: Connection) -> list[asyncpg.Record]:
            try:
                return await conn.fetch(sql, *args)
            except asyncpg.UndefinedTableError as e:
                raise not_found(self.name) from e

        return await self._database.home.call(self._database.autocommit(look))

    async def _write(self, changes: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        """Serializable, like what super-steps do, so that none of these misses it."""

        async def once() -> None:
            async with self._database.transaction() as conn:
                for sql, rows in changes:
                    await conn.executemany(sql, rows)

        async def failed(error: Exception, left: int) -> None:
            if not is_serialization_failure(error):
                raise error
            if not left:
                raise DatabaseUnavailable(
                    f"Collection {self.name!r}: other writers kept coming in between, {_TRIES} times over, and "
                    f"nothing more was written. Try again."
                ) from error

        try:
            await self._database.home.call(retry(once, failed, tries=_TRIES, outage=self._database.outage))
        except asyncpg.UndefinedTableError as e:
            raise not_found(self.name) from e


def metadata_of(row: asyncpg.Record) -> dict[str, Any]:
    """The metadata of a row, which the driver gives as the text of their JSON."""
    value = row["metadata"]
    read: dict[str, Any] = json.loads(value) if isinstance(value, str) else dict(value)
    return read


def not_found(name: str, sql: str = "") -> CollectionNotFound:
    """The error for a name that is none, and the statement that was rejected for it."""
    return CollectionNotFound(
        f"There is no collection {name!r}. Make it with saver.acollection({name!r}, dimensions=...) or "
        f"`runtime collection add {name} PATH`; `runtime collection list` shows which there are.",
        sql=sql,
    )
