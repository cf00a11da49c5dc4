"""A typed function for each statement of `queries.sql`; `schema` is the saver's, unquoted.

Those about the rows of a collection give the text of the statement and its arguments: the rows may be read and written
in a super-step, which has its own ways to run a statement.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from superstep.checkpointer.collections.definition import Definition
from superstep.runtime.sqlfile import beside, quote_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = [
    "all_definitions",
    "begin_epoch",
    "count",
    "create_table",
    "definition_of",
    "delete",
    "delete_source",
    "drop_table",
    "find",
    "get",
    "has_rows",
    "indexes",
    "put",
    "register",
    "reposition",
    "sources",
    "unregister",
]

_of_schema = beside(__file__)
_NONE = Definition("", 0)
_TABLE = re.compile(r"\bcollection_0\b")

# Vectors without a direction are kept out, whoever writes them: their distance to anything is NaN. Indexes on texts
# without their list of pending entries, which would have every two writers meet in it (serializable transactions).
_CREATE = """
CREATE TABLE {table} (
    id        text COLLATE "C" PRIMARY KEY,
    content   text NOT NULL,
    metadata  jsonb NOT NULL DEFAULT '{{}}' CHECK (jsonb_typeof(metadata) = 'object'),
    embedding {type}({dimensions}) NOT NULL CHECK ((embedding <=> embedding) <> 'NaN'),
    source    text COLLATE "C",
    position  integer,
    revision  xid8 NOT NULL DEFAULT pg_current_xact_id(),
    words     tsvector GENERATED ALWAYS AS (to_tsvector('{language}'::regconfig, content)) STORED
);
CREATE INDEX ON {table} (revision);
CREATE INDEX ON {table} (source, position) WHERE source IS NOT NULL;
CREATE INDEX ON {table} USING gin (words) WITH (fastupdate = off);
CREATE INDEX ON {table} USING gin (metadata jsonb_path_ops) WITH (fastupdate = off);
CREATE TRIGGER revision BEFORE INSERT OR UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {schema}.collection_revision();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER revision
"""


@lru_cache(maxsize=256)
def _statements(schema: str, bare_table: str) -> Mapping[str, str]:
    return {name: _TABLE.sub(bare_table, sql) for name, sql in _of_schema(schema).items()}


def _sql(schema: str, of: Definition = _NONE) -> Mapping[str, str]:
    return _statements(schema, of.bare_table)


# -- which collections there are


def find(schema: str, name: str) -> tuple[str, str]:
    """Finds one by its name: statement and argument, for `definition_of`."""
    return _sql(schema)["find"], name


def definition_of(row: asyncpg.Record) -> Definition:
    """A row that `find` has found."""
    keys = row["metadata_schema"]
    return Definition(
        row["name"],
        row["dimensions"],
        row["precision"],
        row["language"],
        None if keys is None else json.loads(keys),
        row["id"],
    )


async def all_definitions(conn: Connection, schema: str) -> Sequence[asyncpg.Record]:
    """All of them by name, with `created_at` and `bytes`."""
    return await conn.fetch(_sql(schema)["all"], schema)


async def register(conn: Connection, schema: str, new: Definition) -> int | None:
    """Its number; `None` if there is one of that name. Waits for whoever is making one."""
    keys = None if new.metadata_schema is None else json.dumps(dict(new.metadata_schema))
    number: int | None = await conn.fetchval(
        _sql(schema)["register"], new.name, new.dimensions, new.precision, new.language, keys
    )
    return number


async def create_table(conn: Connection, schema: str, new: Definition) -> None:
    """Make the table of a new one."""
    await conn.execute(
        _CREATE.format(
            schema=quote_identifier(schema),
            table=new.table(schema),
            type=new.type_name,
            dimensions=new.dimensions,
            language=new.language,
        )
    )


async def unregister(conn: Connection, schema: str, name: str) -> int | None:
    """Forget one; its number, or `None`."""
    number: int | None = await conn.fetchval(_sql(schema)["unregister"], name)
    return number


async def drop_table(conn: Connection, schema: str, number: int) -> None:
    """Drop the table of the one that had this number."""
    await conn.execute(_sql(schema, Definition("", 0, id=number))["drop_table"])


async def begin_epoch(conn: Connection, schema: str) -> None:
    """Name this life of the server, unless it has a name."""
    await conn.execute(_sql(schema)["begin_epoch"])


# -- rows of one


def put(schema: str, of: Definition) -> str:
    """Writes a row: id, content, metadata as JSON, the vector's text, source, position."""
    return _sql(schema, of)["put_document"]


def delete(schema: str, of: Definition, ids: Iterable[str]) -> tuple[str, list[str]]:
    """Deletes rows by their ids."""
    return _sql(schema, of)["delete"], list(ids)


def delete_source(schema: str, of: Definition, source: str, keep: Iterable[str] = ()) -> tuple[str, str, list[str]]:
    """Deletes the rows of a source but those with these ids."""
    return _sql(schema, of)["delete_source"], source, list(keep)


def reposition(
    schema: str, of: Definition, positions: Mapping[str, int | None]
) -> tuple[str, list[str], list[int | None]]:
    """Gives rows other positions, by id."""
    return _sql(schema, of)["reposition"], list(positions), list(positions.values())


def get(schema: str, of: Definition, ids: Iterable[str]) -> tuple[str, list[str]]:
    """Finds rows by their ids."""
    return _sql(schema, of)["get"], list(ids)


def count(schema: str, of: Definition) -> str:
    """How many rows there are."""
    return _sql(schema, of)["count"]


def sources(schema: str, of: Definition) -> str:
    """Ids of the rows of each source, in the order of their positions."""
    return _sql(schema, of)["sources"]


async def has_rows(conn: Connection, schema: str, of: Definition, number: int) -> bool:
    """Whether there are so many rows."""
    return bool(await conn.fetchval(_sql(schema, of)["has_rows"], number))


async def indexes(conn: Connection, schema: str, of: Definition) -> list[tuple[str, bool]]:
    """Its indexes for nearest rows, and whether each is usable."""
    return [(row["name"], row["valid"]) for row in await conn.fetch(_sql(schema, of)["indexes"], of.table(schema))]
