"""Hybrid search: by meaning and by words, joined by reciprocal rank fusion. Pure.

Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
SIGIR 2009: a row's score is the sum of 1 / (60 + its rank) over both lists. A row matches by words if it has any of
them; those with more of them, closer together, come first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.collections.search import Search

__all__ = ["hybrid_statement"]

_CANDIDATES = 50  # of each list, at least

_TAIL = """,
"nearest:words" AS MATERIALIZED (
    SELECT string_agg('''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || '''', ' | ')::tsquery AS q
    FROM unnest(to_tsvector('{language}'::regconfig, ${text}::text))
),
"nearest:worded" AS MATERIALIZED (
    SELECT id, content, metadata, embedding <=> (SELECT v FROM "nearest:query") AS distance,
        ts_rank_cd(words, (SELECT q FROM "nearest:words")) AS rank
    FROM {table} WHERE words @@ (SELECT q FROM "nearest:words") AND {where}
    ORDER BY rank DESC, id LIMIT ${candidates}::int8
)
SELECT id, content, metadata, min(distance) AS distance, sum(score) AS score FROM (
    SELECT id, content, metadata, distance, 1::float8 / (60 + row_number() OVER (ORDER BY distance, id)) AS score
    FROM "nearest:found"
    UNION ALL
    SELECT id, content, metadata, distance, 1::float8 / (60 + row_number() OVER (ORDER BY rank DESC, id)) AS score
    FROM "nearest:worded"
) AS "nearest:both" WHERE (SELECT count(*) FROM "nearest:reset") >= 0
GROUP BY id, content, metadata ORDER BY score DESC, id LIMIT ${most}::int8
"""


def hybrid_statement(search: Search, text: str) -> tuple[str, Sequence[Any]]:
    """Statement and arguments for the rows of a search that fit its text best, by meaning and by words.

    They have `id`, `content`, `metadata`, `distance` (of meaning) and `score`, the best first.
    """
    wide = replace(search, k=max(4 * search.k, _CANDIDATES))
    at = len(search.args) + 1
    tail = _TAIL.format(
        language=search.definition.language,
        text=at + 2,
        most=at + 3,
        candidates=at + 1,
        table=search.table,
        where=f"({search.where}\n)" if search.where else "true",
    )
    return search.found + tail, (*wide.values, text, search.k)
