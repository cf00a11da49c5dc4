"""Statements that look back. Each is one round trip, and repeatable; `schema` is the saver's, unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

    Rows = Sequence[asyncpg.Record]

__all__ = [
    "Wanted",
    "ancestors",
    "asked_again",
    "checkpoints",
    "delta_writes",
    "last_input",
    "steps",
    "threads",
    "usage",
    "values_at",
]

_sql = beside(__file__, "parts.sql")


class Wanted(NamedTuple):
    """Which checkpoints to list; `None` leaves a column open.

    Attributes:
        thread_id: of this thread.
        ns: of this namespace.
        checkpoint_id: only this one.
        before: with a smaller id.
        metadata: with at least these entries, as JSON.
    """

    thread_id: str | None
    ns: str | None
    checkpoint_id: str | None
    before: str | None
    metadata: str


async def checkpoints(conn: Connection, schema: str, wanted: Wanted, limit: int | None) -> Rows:
    """Checkpoints as `codec.checkpoint_tuple` takes them, newest first."""
    return await conn.fetch(_sql(schema)["list"], *wanted, limit)


async def ancestors(conn: Connection, schema: str, thread_id: str, ns: str, checkpoint_id: str | None) -> Rows:
    """The parent chain of a checkpoint, newest first, without the checkpoint itself."""
    return await conn.fetch(_sql(schema)["ancestors"], thread_id, ns, checkpoint_id)


async def delta_writes(
    conn: Connection, schema: str, thread_id: str, ns: str, checkpoint_ids: Sequence[str], channels: Sequence[str]
) -> Rows:
    """Writes of these channels in these checkpoints, in the order of LangGraph's task paths."""
    return await conn.fetch(_sql(schema)["delta_writes"], thread_id, ns, checkpoint_ids, channels)


async def values_at(
    conn: Connection, schema: str, thread_id: str, ns: str, versions: Mapping[str, str]
) -> asyncpg.Record:
    """The stored values of channels, each at its version, as `codec.values_of` takes them."""
    (row,) = await conn.fetch(_sql(schema)["values_at"], thread_id, ns, list(versions), list(versions.values()))
    return row


async def versions_at(conn: Connection, schema: str, thread_id: str, ns: str, versions: Mapping[str, str]) -> Rows:
    """Those of the channels that have a stored value at their version."""
    return await conn.fetch(_sql(schema)["versions_at"], thread_id, ns, list(versions), list(versions.values()))


async def threads(conn: Connection, schema: str, thread_id: str | None, limit: int | None) -> Rows:
    """One thread or all, the most recently changed first."""
    return await conn.fetch(_sql(schema)["threads"], thread_id, limit)


async def steps(conn: Connection, schema: str, thread_id: str, since: str | None) -> Rows:
    """Committed super-steps with their calls, oldest first, of the whole thread or after a checkpoint."""
    return await conn.fetch(_sql(schema)["steps"], thread_id, since)


async def last_input(conn: Connection, schema: str, thread_id: str) -> str | None:
    """The checkpoint that the thread's latest run began with."""
    found = await conn.fetchval(_sql(schema)["last_input"], thread_id)
    return str(found) if found else None


async def usage(conn: Connection, schema: str, thread_id: str, since: str | None) -> dict[str, Any]:
    """What calls since a checkpoint come to: `llm_paid`, `input_tokens`, `output_tokens`, `usd`, `offline`."""
    (row,) = await conn.fetch(_sql(schema)["usage"], thread_id, since)
    return dict(row)


async def asked_again(conn: Connection, schema: str, thread_id: str) -> list[str]:
    """Ids of tasks that ask a human anew because the facts they had shown moved, as often as that was so."""
    return list(await conn.fetchval(_sql(schema)["asked_again"], thread_id))
