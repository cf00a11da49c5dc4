"""Giving out runs, and recording in the same transaction how those before them have ended.

A run costs the queue a transaction when it starts and one when it ends, unless what has ended makes room for what
starts: so a worker hands in its ends when it asks for more. What could break it, beside what `fleet` says:

*The transaction fails, or its answer is lost.* It is repeated as a whole. Ends that have landed are found recorded:
they then count as another worker's, who would say the same. Runs that were given out and never came to the worker are
taken over when their lease is over.

*Its worker renews the leases of runs whose ends it records*, over another connection. Both lock rows in the order of
their ids. Whoever is second finds the run ended, and does not renew it, or renews it and sees it end.

*Another worker is in the gate.* The rows of ended runs are locked before this one waits for it. Inside of the gate
nobody waits for a run that is under way: what was left alone is taken over where it is not locked.

*Nothing waits.* A look, one statement without a transaction, says so: an idle queue costs no more. What is submitted
between the look and the next one wakes the worker by a job of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.fleet import queries
from superstep.checkpointer.fleet.runs import Claimed, Exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.fleet.queries import Ended, Outlook, Wanted

__all__ = ["exchange"]


async def exchange(conn: Connection, schema: str, wanted: Wanted, most: int, ends: Sequence[Ended]) -> Exchange:
    """Record ends, and give out so many runs at most. It may be repeated."""
    asks = most > 0 and bool(wanted.graphs)
    found = (
        await queries.look(conn, schema, wanted) if asks else queries.Outlook(waits=False, is_left=False, until=None)
    )
    gives = found.waits or found.is_left
    if not (ends or gives):
        return Exchange([], set(), found.until)
    async with conn.transaction(isolation="read_committed"):
        recorded = await queries.ended(conn, schema, ends) if ends else set()
        rows = await _given_out(conn, schema, wanted, most, found) if gives else []
    return Exchange([_claimed(row) for row in rows], recorded, found.until)


async def _given_out(conn: Connection, schema: str, wanted: Wanted, most: int, found: Outlook) -> list[asyncpg.Record]:
    before = await queries.pass_gate(conn, schema, most)
    rows = list(await queries.take_over(conn, schema, wanted, most)) if found.is_left else []
    if len(rows) < most and found.waits:
        rows += await queries.claim(conn, schema, wanted, most - len(rows), before)
    return rows


def _claimed(row: asyncpg.Record) -> Claimed:
    return Claimed(
        row["run_id"],
        row["thread_id"],
        row["graph"],
        row["delivery"],
        row["failures"],
        tuple(row["left_by"]),
        row["kind"],
        row["request"],
        *(row["parent"], row["answer"], row["question"], row["asked_as"]),
    )
