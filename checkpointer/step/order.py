"""Whether a new order of the same rows is a change, asked only when there is one.

Rows are compared in their order, unless the statement is a plain scan (`statements.scanned`) of tables: SQL promises no
order for it, and Postgres gives another one when a row has been updated to what it was before. A view is a plain scan
if its definition is one, so names are followed to the tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.step.old_digests import LENGTH, digest_of_0_1_0, took_no_order
from superstep.checkpointer.step.read_set import differ_in_order
from superstep.checkpointer.step.statements import scanned

if TYPE_CHECKING:
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.answers import Answer
    from superstep.checkpointer.step.read_set import Read

__all__ = ["still_holds"]

# Views by their definitions, and functions that return rows (`row.name` calls one too, without a parenthesis) by none.
_DEFINITIONS = """
SELECT c.oid, pg_get_viewdef(c.oid) AS definition
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND c.relname = ANY ($1::text[])
  AND (pg_table_is_visible(c.oid) OR n.nspname = ANY ($1::text[]))
UNION ALL SELECT oid, NULL FROM pg_proc WHERE proretset AND proname = ANY ($1::text[])
"""


async def still_holds(conn: Connection, read: Read, answer: Answer) -> bool:
    """Whether the read says with this answer what it said before."""
    if read.digest == answer.digest:
        return True
    if len(read.digest) == LENGTH and answer.error is None:
        if read.digest != digest_of_0_1_0(read.sql, answer.rows):
            return False
        any_order = took_no_order(read.sql) and len(answer.rows) > 1
        return not any_order or await _is_scan_of_tables(conn, read.sql)
    return differ_in_order(read.digest, answer.digest) and await _is_scan_of_tables(conn, read.sql)


async def _is_scan_of_tables(conn: Connection, sql: str) -> bool:
    seen: set[int] = set()
    statements = [sql]
    while statements:
        words = scanned(statements.pop())
        if words is None:
            return False
        for found in await conn.fetch(_DEFINITIONS, sorted(words)):
            if found["definition"] is None:
                return False
            if found["oid"] not in seen:
                seen.add(found["oid"])
                statements.append(found["definition"])
    return True
