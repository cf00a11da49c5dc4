"""`Step.nearest`: which table a name means, and what of a search is a fact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.checkpointer.collections import queries
from superstep.checkpointer.collections.collection import not_found
from superstep.checkpointer.collections.filters import narrowed
from superstep.checkpointer.collections.hybrid import hybrid_statement
from superstep.checkpointer.collections.nearest import (
    COLUMN_TYPE,
    nearest_statement,
    table_of,
    vector_of,
    wrong_dimensions,
)
from superstep.checkpointer.collections.search import Search, matches
from superstep.checkpointer.collections.vectors import vector_text
from superstep.checkpointer.database.errors import DRIVER_ERRORS
from superstep.checkpointer.database.vectors import WHERE_VECTORS_ARE, vectors_missing
from superstep.checkpointer.step.fact import Fact
from superstep.runtime.faults import ConfigError, ReadFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import asyncpg

    from superstep.checkpointer.collections.definition import Definition
    from superstep.checkpointer.collections.known import KnownCollections
    from superstep.checkpointer.collections.nearest import Embedding
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.step.fact import Condense

    Read = Callable[[str, Sequence[Any], bool, Condense | None], Awaitable[list[asyncpg.Record]]]

__all__ = ["Nearest", "refuse_hybrid"]

_NO_TABLE = "42P01"
_IS_MISSING = "SELECT to_regclass(quote_ident($1::text)) IS NULL"


class Nearest:
    """Searches of one step. `read` runs a statement in its snapshot: text, arguments, whether it is a fact, of what."""

    def __init__(self, database: Database, known: KnownCollections, read: Read) -> None:
        self._database = database
        self._known = known
        self._read = read

    async def collection(self, name: str) -> Definition | None:
        """The collection that a name means; `None` if it means a table of the user's. One round trip, and seldom.

        That there is none is no fact yet: the search of the table says so, or `absent`.
        """
        if (known := self._known.get(name)) is not None or self._known.is_table(name):
            return known
        try:
            rows = await self._read(*self._find(name), False, None)
        except ReadFailed as e:
            if e.sqlstate != _NO_TABLE:
                raise
            rows = []  # the tables of the saver are older than collections
        if not rows:
            return None
        definition = queries.definition_of(rows[0])
        self._known.put(definition)
        return definition

    def _find(self, name: str) -> tuple[str, Sequence[Any]]:
        sql, *args = queries.find(self._database.schema, name)
        return sql, args

    async def in_collection(
        self,
        definition: Definition,
        embedding: Embedding,
        *,
        text: str | None,
        k: int,
        where: str | None,
        args: Sequence[Any],
        filter_: Mapping[str, Any] | None,
        validate: bool,
    ) -> list[asyncpg.Record]:
        """The rows of a collection nearest to a vector; with a text, those that fit it best by meaning and by words.

        Raises:
            CollectionNotFound: it was dropped. That it is not there is a fact.
        """
        vector = vector_text(definition, embedding)
        condition, values = narrowed(where, args, filter_, definition)
        search = Search(definition, self._database.schema, vector, k, condition, values)
        try:
            if text is not None:
                return await self._read(*hybrid_statement(search, text), validate, None)
            returned = await self._read(search.rows_and_snapshot, search.values, validate, self._condense(search))
        except ReadFailed as e:
            if e.sqlstate != _NO_TABLE:
                raise
            self._known.forget(definition.name)
            now = await self.collection(definition.name)
            if now is not None and now.id != definition.id:
                more: dict[str, Any] = {"text": text, "k": k, "where": where, "args": args, "filter_": filter_}
                return await self.in_collection(now, embedding, **more, validate=validate)
            if now is not None:
                raise  # another table is missing, that the condition names
            await self._read(*self._find(definition.name), validate, None)
            raise not_found(definition.name, e.sql) from e
        return [row["found"] for row in matches(returned)]

    def _condense(self, search: Search) -> Condense:
        def condense(returned: Sequence[asyncpg.Record], on_staged_writes: bool) -> Fact:
            seen = [row["found"] for row in matches(returned)]
            condition = None if on_staged_writes else search.condition(returned)
            if condition is None:
                if not on_staged_writes:
                    self._database.home.spawn(self._begin_epoch)
                return Fact(search.rows, search.values, seen, seen)
            return Fact(*condition, (), seen)

        return condense

    async def _begin_epoch(self) -> None:
        """On a connection of its own, since the step's is in a transaction: later searches are the better for it."""
        try:
            await self._database.autocommit(lambda conn: queries.begin_epoch(conn, self._database.schema))
        except DRIVER_ERRORS:
            return

    async def in_table(
        self,
        table: str,
        embedding: Embedding,
        *,
        k: int,
        where: str | None,
        args: Sequence[Any],
        filter_: Mapping[str, Any] | None,
        validate: bool,
    ) -> list[asyncpg.Record]:
        """The rows of a table of the user's nearest to a vector.

        Raises:
            ReadFailed: the database rejected it.
            CollectionNotFound: there is no such table either.
        """
        vector = vector_of(table, embedding)
        condition, values = narrowed(where, args, filter_)
        sql, values = nearest_statement(table, vector, k=k, where=condition, args=values)
        try:
            rows = await self._read(sql, values, validate, None)
        except ReadFailed as e:
            raise await self._not_searched(e, table, vector, validate=validate) from e
        self._known.put_table(table)
        return rows

    async def _not_searched(
        self, error: ReadFailed, table: str, vector: Sequence[float], *, validate: bool
    ) -> Exception:
        """What to raise for a search that the database rejected."""
        if error.sqlstate == "42704":  # an undefined object: the type `vector`, unless the condition names another one
            there = await self._read(WHERE_VECTORS_ARE, (), True, None)
            return (there and vectors_missing(there[0])) or error
        if error.sqlstate == _NO_TABLE and "." not in table:
            ((there,),) = await self._read(
                "SELECT to_regclass(quote_ident($1::text)) IS NULL", (table,), validate, None
            )
            if there:
                self._known.forget(table)  # it may have become a collection: the next search looks
                await self._read(*self._find(table), validate, None)
                return not_found(table, error.sql)
        if error.sqlstate != "22000":
            return error
        columns = await self._read(COLUMN_TYPE, (table_of(table),), True, None)
        if not columns or columns[0][0] is None:
            return error
        return ReadFailed(wrong_dimensions(table, vector, columns[0][0]), sql=error.sql, sqlstate=error.sqlstate)


def refuse_hybrid(name: str) -> ConfigError:
    """The error for words that are looked for where there is no column of them."""
    return ConfigError(f"nearest({name!r}, hybrid=True): {name!r} is a table, and only collections have their words.")
