"""`Collections`: which there are, making and dropping them. `saver.collections` is one.

*Two make one at the same time*: the name is unique, and the second waits for the first, finds it, and compares.
*One is dropped while others use it*: they get `CollectionNotFound`. Super-steps that had searched it run again.
Making and dropping happen at once, also when called in a super-step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from superstep.checkpointer.collections import queries
from superstep.checkpointer.collections.collection import Collection, not_found
from superstep.checkpointer.collections.definition import Definition, checked
from superstep.checkpointer.database.vectors import WHERE_VECTORS_ARE, create_vectors, vectors_missing
from superstep.runtime.faults import CollectionMismatch, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    import asyncpg

    from superstep.checkpointer.collections.collection import InStep
    from superstep.checkpointer.collections.definition import Precision
    from superstep.checkpointer.collections.embedder import TextEmbedder
    from superstep.checkpointer.collections.known import KnownCollections
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["Collections"]

T = TypeVar("T")

# A table that a search by this name would find: no collection may stand in front of it.
_IS_TABLE = """
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(quote_ident($1)) AND attname = 'embedding'
    AND NOT attisdropped)
"""
_IS_LANGUAGE = "SELECT EXISTS (SELECT FROM pg_ts_config WHERE cfgname = $1)"


class Collections:
    """The collections of a schema."""

    def __init__(
        self,
        database: Database,
        embedder: TextEmbedder,
        known: KnownCollections,
        step: Callable[[], InStep | None] = lambda: None,
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._known = known
        self._step = step

    async def create(
        self,
        name: str,
        *,
        dimensions: int,
        precision: Precision = "full",
        language: str = "simple",
        metadata_schema: Mapping[str, str] | None = None,
    ) -> Collection:
        """The collection of that name, which is made unless it is there. Safe to call in many processes at once.

        Args:
            name: up to 63 letters, digits, hyphens and underscores.
            dimensions: of its vectors: those of the model that embeds.
            precision: "full" (4 bytes a number) or "half" (2 bytes: half the room, and about the same neighbours).
            language: PostgreSQL's configuration of full-text search, such as "english".
            metadata_schema: the keys that metadata may have, with their types: `str`, `int`, `float`, `bool`,
                `list[str]`, with `?` behind it where the key may be missing. `None`: any keys.

        Raises:
            CollectionMismatch: one of that name is there and is another one, or a table with embeddings is.
            ConfigError: there can be no such collection.
            ExtensionMissing: the database has no pgvector.
        """
        keys = None if metadata_schema is None else dict(metadata_schema)
        wanted = checked(Definition(name, dimensions, precision, language, keys))
        found = await self._database.home.call(self._create(wanted))
        found.refuse_other(wanted)
        self._known.put(found)
        return self._of(found)

    async def get(self, name: str) -> Collection:
        """The collection of that name.

        Raises:
            CollectionNotFound: there is none.
        """
        found = await self.find(name)
        if found is None:
            raise not_found(name)
        return found

    async def find(self, name: str) -> Collection | None:
        """The collection of that name, or `None`."""
        found = await self._database.home.call(self._database.autocommit(lambda conn: self._find(conn, name)))
        if found is None:
            self._known.forget(name)
            return None
        self._known.put(found)
        return self._of(found)

    async def all(self) -> list[dict[str, Any]]:
        """All collections by name: what they are, and their `rows`, `bytes`, `created_at`, and whether `indexed`."""
        return await self._database.home.call(self._database.autocommit(self._list))

    async def drop(self, name: str) -> bool:
        """Drop the collection of that name, with all that is in it. Returns whether there was one."""
        dropped = await self._database.home.call(self._database.autocommit(lambda conn: self._drop(conn, name)))
        self._known.forget(name)
        return dropped

    async def dimensions(self) -> int:
        """How many the vectors of the embedder have, which is asked to embed a word.

        Raises:
            ConfigError: no embedder is set.
        """
        return len(await self._embedder.embed("dimensions"))

    def block(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what one of these methods returns, and block the calling thread until it is done.

        Raises:
            NoActiveStep: called on the event loop of the saver.
        """
        return self._database.home.block(work)

    def _of(self, definition: Definition) -> Collection:
        return Collection(definition, self._database, self._embedder, self._step)

    async def _find(self, conn: Connection, name: str) -> Definition | None:
        sql, *args = queries.find(self._database.schema, name)
        row = await conn.fetchrow(sql, *args)
        await queries.begin_epoch(conn, self._database.schema)
        return None if row is None else queries.definition_of(row)

    async def _create(self, wanted: Definition) -> Definition:
        found = await self._database.autocommit(lambda conn: self._find(conn, wanted.name))
        if found is None:
            await self._require_vectors()
            await self._database.autocommit(lambda conn: self._make(conn, wanted))
            found = await self._database.autocommit(lambda conn: self._find(conn, wanted.name))
        if found is None:
            raise not_found(wanted.name)
        return found

    async def _require_vectors(self) -> None:
        async with self._database.connections.borrow() as conn:
            (there,) = await conn.fetch(WHERE_VECTORS_ARE)
            if vectors_missing(there) is None:
                return
            await create_vectors(conn)
            (there,) = await conn.fetch(WHERE_VECTORS_ARE)
        if (missing := vectors_missing(there)) is not None:
            raise missing
        await self._database.connections.renew()  # the types of vectors exist only now

    async def _make(self, conn: Connection, wanted: Definition) -> None:
        schema = self._database.schema
        if await conn.fetchval(_IS_TABLE, wanted.name):
            raise CollectionMismatch(
                f"{wanted.name!r} is a table with embeddings, which searches by that name find. Give the collection "
                f"another name."
            )
        if not await conn.fetchval(_IS_LANGUAGE, wanted.language.rpartition(".")[2]):
            raise ConfigError(f"The database has no configuration of full-text search called {wanted.language!r}.")
        # READ COMMITTED: whoever waits here for another's commit has to see what that one has made.
        async with conn.transaction(isolation="read_committed"):
            number = await queries.register(conn, schema, wanted)
            if number is not None:
                new = Definition(
                    wanted.name,
                    wanted.dimensions,
                    wanted.precision,
                    wanted.language,
                    wanted.metadata_schema,
                    number,
                )
                await queries.create_table(conn, schema, new)

    async def _list(self, conn: Connection) -> list[dict[str, Any]]:
        return [await self._described(conn, row) for row in await queries.all_definitions(conn, self._database.schema)]

    async def _described(self, conn: Connection, row: asyncpg.Record) -> dict[str, Any]:
        found = queries.definition_of(row)
        indexes = await queries.indexes(conn, self._database.schema, found)
        return {
            "name": found.name,
            "dimensions": found.dimensions,
            "precision": found.precision,
            "language": found.language,
            "metadata_schema": found.metadata_schema,
            "rows": int(await conn.fetchval(queries.count(self._database.schema, found))),
            "bytes": row["bytes"],
            "indexed": any(valid for _, valid in indexes),
            "created_at": row["created_at"],
        }

    async def _drop(self, conn: Connection, name: str) -> bool:
        async with conn.transaction(isolation="read_committed"):
            number = await queries.unregister(conn, self._database.schema, name)
            if number is not None:
                await queries.drop_table(conn, self._database.schema, number)
        return number is not None
