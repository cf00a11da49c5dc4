"""Searching a collection, and the condition under which what was found is still what is nearest. Pure.

A search is validated by what matters: whether a row entered, left or changed in the rows that were shown. Running it
again would tell more than that, since an approximate index answers otherwise as rows arrive far away, and it would lock
the whole index for the detection of conflicts. So the fact of a search is another statement, the *condition*: it
returns no row as long as what was shown holds, and that it does in the snapshot of the search need not be asked.

What was shown holds if

1. each row of it is still there, matches, and was not written since, or says the same at the same distance; and
2. no row that was written since matches and is nearer than the last one shown (or ties with it and has a lesser id), or
   matches at all, if fewer rows than wanted were shown.

*Written since* is what the snapshot of the search could not see. Each row has the number of the transaction that wrote
it last (`revision`), and the search returns its snapshot, so both can be told from the row (`pg_visible_in_snapshot`),
and an index on `revision` leads to the rows of interest: those from the oldest transaction on that was under way then.
All other rows are as they were, so they are no nearer than they were.

*Rows that were deleted* are those of 1. *A row that enters or leaves by its metadata* has been written. *Transactions
that were under way* are in the snapshot by number; those of subtransactions are not, which is why `revision` is that
of the outermost one. *Its own transaction*: a search sees no row of its own transaction, for what a step stages comes
after, and a search on top of what siblings have staged is logged with its rows.

*Numbers of transactions count only within one life of a server* (see the migration: `collection_epoch`). In another
one, the condition takes every row for written since: it compares all that is there, once, with the same result.

If it does not hold, it returns what is nearest now, exactly, so that this can be a fact too: what a subgraph's writes
have made of a search of its caller is what the caller's commit compares with. It has a row in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.collections.nearest import FOUND_ROWS, found_statement
from superstep.runtime.sqlfile import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.collections.definition import Definition

__all__ = ["CANDIDATES", "EPOCH", "Search", "matches"]

CANDIDATES = "least(greatest(4 * ${k}::int8, least(20 * ${k}::int8, 200)), 1000)"
"""How many candidates an index looks at. With `indexing`'s parameters recall@10 on 50,000 vectors is 0.98 where no
direction is more likely than another, which is the hardest case, and 1.0 where they cluster as those of texts do."""

EPOCH = "SELECT epoch FROM {schema}.collection_epoch WHERE xmin = made_in::xid"
"""The life of the server that numbers of transactions are of now; no row before the first one, or after a crash."""

_DIGEST = "sha256(convert_to(content || chr(1) || metadata::text, 'UTF8'))"

_TAIL = """
SELECT ROW(f.id, f.content, f.metadata, f.distance)::{schema}.neighbour AS found,
    CASE WHEN f.id IS NOT NULL THEN {digest} END AS digest, s.snapshot, s.epoch
FROM (SELECT pg_current_snapshot()::text AS snapshot, ({epoch}) AS epoch) AS s LEFT JOIN "nearest:found" AS f ON true
WHERE (SELECT count(*) FROM "nearest:reset") >= 0 ORDER BY f.distance, f.id
"""

# Why each part is as it is: rows are found by their ids, or by when they were written, and only then does the caller's
# condition choose among them (OFFSET 0 keeps it out): through an index of its own it would lock rows for the detection
# of conflicts that the fact is not about. Of those written since one is looked for in the order of the index, since the
# planner cannot know how few they are, and would read the whole table. `step.together` takes no `*`.
_CONDITION = """
WITH "nearest:query" AS MATERIALIZED (SELECT ${vector}::text::{type} AS v),
"nearest:since" AS MATERIALIZED (
    SELECT CASE WHEN EXISTS ({epoch} AND epoch = ${at_epoch}::uuid)
        THEN ${snapshot}::text::pg_snapshot ELSE '1:1:'::pg_snapshot END AS s
),
"nearest:shown" AS MATERIALIZED (
    SELECT u.id, u.digest, u.distance
    FROM unnest(${ids}::text[], ${digests}::bytea[], ${distances}::float8[]) AS u (id, digest, distance)
),
"nearest:there" AS MATERIALIZED (
    SELECT id, revision, {digest} AS digest, {distance} AS distance
    FROM (SELECT {columns} FROM {table} WHERE id = ANY (${ids}::text[]) OFFSET 0) AS {name} WHERE {where}
),
"nearest:kept" AS MATERIALIZED (
    SELECT count(*) AS n FROM "nearest:shown" AS s JOIN "nearest:there" AS t ON t.id = s.id
    WHERE pg_visible_in_snapshot(t.revision, (SELECT s FROM "nearest:since"))
        OR (t.digest = s.digest AND t.distance = s.distance)
),
"nearest:holds" AS MATERIALIZED (
    SELECT (SELECT n FROM "nearest:kept") = cardinality(${ids}::text[]) AND (
        SELECT true FROM (
            SELECT {columns} FROM {table}
            WHERE revision >= pg_snapshot_xmin((SELECT s FROM "nearest:since"))
                AND NOT pg_visible_in_snapshot(revision, (SELECT s FROM "nearest:since"))
                AND id <> ALL (${ids}::text[])
            ORDER BY revision DESC OFFSET 0
        ) AS {name}
        WHERE {where}
            AND (cardinality(${ids}::text[]) < ${k}::int8 OR ({distance}, id) < (${last}::float8, ${last_id}::text))
        LIMIT 1
    ) IS NULL AS holds
)
SELECT n.id, n.digest, n.distance FROM "nearest:holds" AS h LEFT JOIN (
    SELECT id, {digest} AS digest, {distance} AS distance FROM {table}
    WHERE NOT (SELECT holds FROM "nearest:holds") AND {where}
    ORDER BY {distance} + 0, id LIMIT ${k}::int8
) AS n ON true
WHERE NOT h.holds ORDER BY n.distance, n.id
"""
_COLUMNS = "id, content, metadata, embedding, source, position, revision, words"
_DISTANCE = '(embedding <=> (SELECT v FROM "nearest:query"))'
_NUMBERS = ("at_epoch", "snapshot", "ids", "digests", "distances", "last", "last_id")  # of arguments after the search's


@dataclass(frozen=True, slots=True)
class Search:
    """The `k` rows of a collection nearest to a vector.

    Attributes:
        definition: of the collection.
        schema: of the saver, unquoted.
        vector: the vector's text.
        k: how many rows at most.
        where: an SQL condition with `$1`, `$2`, … for `args`, or `None`.
        args: its values.
    """

    definition: Definition
    schema: str
    vector: str
    k: int
    where: str | None
    args: Sequence[Any]

    @property
    def table(self) -> str:
        """What stands in a FROM: the table, under the collection's name."""
        return f"{self.definition.table(self.schema)} AS {quote_identifier(self.definition.name)}"

    @property
    def found(self) -> str:
        """The beginning of a statement, see `nearest.found_statement`."""
        at = len(self.args) + 1
        type_ = self.definition.type_name
        return found_statement(self.table, type_, at, where=self.where, candidates=CANDIDATES)

    @property
    def values(self) -> tuple[Any, ...]:
        """Arguments of `rows` and `rows_and_snapshot`."""
        return (*self.args, self.vector, self.k)

    @property
    def rows(self) -> str:
        """The statement that returns the rows, with `id`, `content`, `metadata` and `distance`."""
        return self.found + FOUND_ROWS

    @property
    def rows_and_snapshot(self) -> str:
        """As `rows`, each as `found` (a row of its own) beside its `digest`, the `snapshot` and its `epoch`.

        There is a row with neither if nothing matches.
        """
        schema = quote_identifier(self.schema)
        return self.found + _TAIL.format(schema=schema, digest=_DIGEST, epoch=EPOCH.format(schema=schema))

    def condition(self, returned: Sequence[asyncpg.Record]) -> tuple[str, tuple[Any, ...]] | None:
        """Statement and arguments of the condition, for what `rows_and_snapshot` has returned.

        `None` if the snapshot is of no known life of the server.
        """
        first, shown = returned[0], matches(returned)
        if first["epoch"] is None:
            return None
        schema, at = quote_identifier(self.schema), len(self.args) + 1
        numbers = {name: at + 2 + n for n, name in enumerate(_NUMBERS)}
        directed = f"{_DISTANCE} <> 'NaN'"
        sql = _CONDITION.format(
            **numbers,
            digest=_DIGEST,
            vector=at,
            k=at + 1,
            type=self.definition.type_name,
            epoch=EPOCH.format(schema=schema),
            table=self.table,
            name=quote_identifier(self.definition.name),
            columns=_COLUMNS,
            where=f"({self.where}\n) AND {directed}" if self.where else directed,
            distance=_DISTANCE,
        )
        rows = [row["found"] for row in shown]
        ids, distances = [row["id"] for row in rows], [row["distance"] for row in rows]
        last = (distances[-1], ids[-1]) if rows else (None, None)
        digests = [row["digest"] for row in shown]
        more = (first["epoch"], first["snapshot"], ids, digests, distances, *last)
        return sql, (*self.values, *more)


def matches(returned: Sequence[asyncpg.Record]) -> list[asyncpg.Record]:
    """What `rows_and_snapshot` has returned, without the row that stands for none."""
    return [row for row in returned if row["digest"] is not None]
