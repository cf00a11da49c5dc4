"""The statement behind `Step.nearest`. Pure.

An approximate index looks at so many candidates and returns what is left of them: fewer than `k` rows when `k` is
larger (HNSW looks at `ef_search`, 40 by default), or when a condition filters them, although more rows match. So the
statement looks twice. First with the index, told to look at `k` candidates at least and to go on until there are `k`
rows (iterative scans, pgvector 0.8; what a version lacks is left alone). If that gives fewer rows than were asked for,
all rows are looked at.

It is one statement for three reasons: one round trip; a replay of the log needs the SQL and its arguments and
nothing else; and what it sets is back to what it was when it ends, for the other reads of the transaction. That the
parts run one after the other is not left to the planner: each waits for a count of the one before, and the first for
the vector, which loads the extension into a new session and with it the settings.

Rows without an embedding, and zero vectors, have no direction, thus no cosine distance: an index has neither, so
neither is found without one.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from superstep.runtime.faults import ConfigError
from superstep.runtime.sqlfile import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "COLUMN_TYPE",
    "Embedding",
    "FOUND_ROWS",
    "check_nearest",
    "found_statement",
    "nearest_statement",
    "table_of",
    "vector_of",
    "wrong_dimensions",
]

COLUMN_TYPE = """
SELECT format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attname = 'embedding' AND NOT attisdropped
"""
"""The type of a collection's embeddings, such as `vector(256)`. Its argument is `table_of` a collection."""

# The names of its parts must be those of no table.
_FOUND = """
WITH "nearest:query" AS MATERIALIZED (SELECT ${vector}::text::{type} AS v),
"nearest:before" AS MATERIALIZED (
    SELECT name, current_setting(name, true) AS value
    FROM unnest(ARRAY['hnsw.ef_search', 'hnsw.iterative_scan', 'ivfflat.iterative_scan']) AS name
    WHERE (SELECT v FROM "nearest:query") IS NOT NULL
),
"nearest:set" AS MATERIALIZED (
    SELECT set_config(name, CASE
        WHEN name = 'hnsw.ef_search' THEN greatest(value::int8, {candidates})::text
        WHEN value = 'off' THEN 'relaxed_order' ELSE value END, true)
    FROM "nearest:before" WHERE value <> ''
),
"nearest:indexed" AS MATERIALIZED (
    SELECT id, content, metadata, embedding <=> (SELECT v FROM "nearest:query") AS distance FROM {table}
    WHERE {where} AND (SELECT count(*) FROM "nearest:set") >= 0
    ORDER BY embedding <=> (SELECT v FROM "nearest:query"), id LIMIT ${k}::int8
),
"nearest:all" AS MATERIALIZED (
    SELECT id, content, metadata, embedding <=> (SELECT v FROM "nearest:query") AS distance FROM {table}
    WHERE {where} AND (SELECT count(*) FROM "nearest:indexed") < ${k}::int8
    ORDER BY (embedding <=> (SELECT v FROM "nearest:query")) + 0, id LIMIT ${k}::int8
),
"nearest:found" AS MATERIALIZED (
    SELECT * FROM "nearest:indexed" WHERE (SELECT count(*) FROM "nearest:indexed") >= ${k}::int8
    UNION ALL SELECT * FROM "nearest:all"
),
"nearest:reset" AS MATERIALIZED (
    SELECT set_config(name, value, true) FROM "nearest:before"
    WHERE value <> '' AND (SELECT count(*) FROM "nearest:found") >= 0
)
"""
FOUND_ROWS = """SELECT id, content, metadata, distance FROM "nearest:found"
WHERE (SELECT count(*) FROM "nearest:reset") >= 0 ORDER BY distance, id
"""
"""The rest of a statement that returns them."""

_CANDIDATES = "least(${k}::int8, 1000)"
_SPARSE = re.compile(r"\{([0-9:.,e+-]*)\}/([0-9]+)")
_DIRECTED = """(embedding <=> (SELECT v FROM "nearest:query")) <> 'NaN'"""


class _Array(Protocol):
    """An array of numpy."""

    def tolist(self) -> Any:
        """Its values."""


class _Vector(Protocol):
    """A vector of pgvector."""

    def to_list(self) -> list[float]:
        """Its values."""


Embedding: TypeAlias = "Sequence[float] | _Array | _Vector | str"
"""A vector: numbers, an array of numpy, one of pgvector's, or the text that a vector is without its codec."""


def check_nearest(
    collection: str, *, text: str | None, embedding: Embedding | None, k: int, hybrid: bool = False
) -> None:
    """Raise `ConfigError` unless these say one thing to look for, and how many rows."""
    if k < 1:
        raise ConfigError(f"nearest({collection!r}): k must be at least 1, not {k}.")
    if (text is None) == (embedding is None) and not (hybrid and text is not None):
        raise ConfigError(f"nearest({collection!r}): give exactly one of text and embedding.")
    if hybrid and text is None:
        raise ConfigError(f"nearest({collection!r}): hybrid=True looks for words too, so it needs the text.")


def vector_of(collection: str, embedding: Embedding) -> list[float]:
    """The numbers of a vector.

    Raises:
        ConfigError: it is not one list of finite numbers.
    """
    try:
        numbers = [float(each) for each in _listed(embedding)]
    except (TypeError, ValueError, LookupError):
        raise ConfigError(
            f"nearest({collection!r}): the embedding is no vector. Give one list of numbers, a one-dimensional numpy "
            f"array, or what pgvector reads; not {type(embedding).__name__} of anything else."
        ) from None
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"nearest({collection!r}): the embedding is empty, or holds a value that is not finite.")
    return numbers


def table_of(collection: str) -> str:
    """The quoted name of a collection's table."""
    return ".".join(quote_identifier(part) for part in collection.split("."))


def nearest_statement(
    collection: str, vector: Sequence[float], *, k: int, where: str | None, args: Sequence[Any]
) -> tuple[str, list[Any]]:
    """SQL and arguments for the `k` rows of a table nearest to a vector, by cosine distance, ties by id.

    Args:
        collection: a table, optionally `schema.table`, with columns id, content, metadata and embedding.
        vector: of the column's dimensions.
        k: how many rows at most.
        where: an SQL condition with `$1`, `$2`, … for `args`.
        args: values for `where`.
    """
    at = len(args) + 1
    found = found_statement(table_of(collection), "vector", at, where=where, candidates=_CANDIDATES)
    return found + FOUND_ROWS, [*args, "[" + ",".join(map(repr, vector)) + "]", k]


def found_statement(table: str, type_: str, at: int, *, where: str | None, candidates: str) -> str:
    """The beginning of a statement that goes on with rows of `"nearest:found"`, when `"nearest:reset"` was counted.

    Args:
        table: what stands in the FROM.
        type_: of the vector that is looked for.
        at: number of the argument with the vector, as text. The next one is `k`.
        where: see `nearest_statement`.
        candidates: how many an index is to look at, at least; `${k}` in it is the number of that argument.
    """
    condition = f"({where}\n) AND {_DIRECTED}" if where else _DIRECTED  # the condition may end in a comment
    most = candidates.format(k=at + 1)
    return _FOUND.format(vector=at, k=at + 1, type=type_, table=table, where=condition, candidates=most)


def wrong_dimensions(collection: str, vector: Sequence[float], column: str) -> str:
    """What to say of a vector that does not fit a column of this type."""
    return (
        f"nearest({collection!r}): the embedding has {len(vector)} dimensions, and column embedding is {column}"
        f"{'' if '(' in column else ' with vectors of other dimensions'}. Use the model that embedded the rows."
    )


def _listed(embedding: Embedding) -> Iterable[Any]:
    if isinstance(embedding, str):
        sparse = _SPARSE.fullmatch(embedding)
        listed = _dense(sparse[1], int(sparse[2])) if sparse else json.loads(embedding)
    elif hasattr(embedding, "to_list"):
        listed = embedding.to_list()
    else:
        listed = embedding.tolist() if hasattr(embedding, "tolist") else embedding
    if isinstance(listed, bytes | dict | str):
        raise TypeError
    return listed


def _dense(elements: str, dimensions: int) -> list[float]:
    """The numbers of a sparsevec: its elements are counted from 1."""
    numbers = [0.0] * dimensions
    for element in filter(None, elements.split(",")):
        index, _, value = element.partition(":")
        numbers[int(index) - 1] = float(value)
    return numbers
