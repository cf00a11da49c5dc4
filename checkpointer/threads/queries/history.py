"""Statements that look back. Each is one round trip, and repeatable; `schema` is the saver's, unquoted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.runtime.sqlfile import beside
from superstep.runtime.telemetry.names import TRACEPARENT

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
    "ids_from",
    "last_input",
    "steps",
    "steps_from",
    "thread",
    "threads",
    "threads_where",
    "traceparent",
    "usage",
    "values_at",
]

_sql = beside(__file__, "parts.sql")
_FIRST = (datetime.max.replace(tzinfo=UTC), "")  # infinity, as the driver says it: where a list of threads begins


class Wanted(NamedTuple):
    """Which checkpoints to list; `None` leaves a column open.

    Attributes:
        thread_id: of this thread.
        ns: of this namespace.
        checkpoint_id: only this one, and what has its id in copies of the thread.
        below: with a smaller id than this.
        below_at: of all threads, and of that very id, what comes after this thread and namespace.
        metadata: with at least these entries, as JSON; "{}" for none.
    """

    thread_id: str | None
    ns: str | None
    checkpoint_id: str | None
    below: str | None
    metadata: str
    below_at: tuple[str, str] | tuple[None, None] = (None, None)


async def checkpoints(conn: Connection, schema: str, wanted: Wanted, limit: int | None) -> Rows:
    """Checkpoints as `codec.checkpoint_tuple` takes them, newest first."""
    sql, (thread_id, ns, only, below, metadata, below_at) = _sql(schema), wanted
    if only is not None:
        return await conn.fetch(sql["list_of_id"], only, thread_id, ns, below, metadata)
    if thread_id is None:
        entries = metadata if metadata != "{}" else None
        return await conn.fetch(sql["list_of_all"], ns, below, *below_at, entries, limit)
    if ns is None:
        return await conn.fetch(sql["list_of_thread"], thread_id, below, metadata, limit)
    return await conn.fetch(sql["list_of_namespace"], thread_id, ns, below, metadata, limit)


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


async def thread(conn: Connection, schema: str, thread_id: str) -> Rows:
    """One thread, or none."""
    return await conn.fetch(_sql(schema)["thread"], thread_id)


async def threads(conn: Connection, schema: str, limit: int | None, after: tuple[datetime, str] | None) -> Rows:
    """Threads, the most recently changed first: after one that was changed then and has this id, or from the first."""
    return await conn.fetch(_sql(schema)["threads"], limit, *(after or _FIRST))


async def threads_where(
    conn: Connection, schema: str, limit: int | None, after: tuple[datetime, str] | None, chosen: Sequence[Any]
) -> Rows:
    """As `threads`, of those that are `chosen`: graph, version, statuses, unchanged for so long; `None` for any."""
    return await conn.fetch(_sql(schema)["threads_where"], limit, *(after or _FIRST), *chosen)


async def ids_from(conn: Connection, schema: str, first: str, most: int) -> list[str]:
    """Ids of threads in their order, from one on, whether it is there or not."""
    return [row["thread_id"] for row in await conn.fetch(_sql(schema)["ids_from"], first, most)]


async def steps(conn: Connection, schema: str, thread_id: str, since: str | None, most: int | None) -> Rows:
    """Committed super-steps with their calls, oldest first: the latest, of the whole thread or after a checkpoint."""
    return await conn.fetch(_sql(schema)["steps"], thread_id, since, most)


async def steps_from(conn: Connection, schema: str, thread_id: str, first: str, most: int) -> list[str]:
    """Checkpoints of committed super-steps in the order of their ids, from one on, whether it is there or not."""
    return [row["checkpoint_id"] for row in await conn.fetch(_sql(schema)["steps_from"], thread_id, first, most)]


async def last_input(conn: Connection, schema: str, thread_id: str) -> str | None:
    """The checkpoint that the thread's latest run began with."""
    found = await conn.fetchval(_sql(schema)["last_input"], thread_id)
    return str(found) if found else None


async def traceparent(conn: Connection, schema: str, thread_id: str) -> str | None:
    """Which trace the thread's latest run belongs to, as a W3C traceparent, if telemetry was on then."""
    found = await conn.fetchval(_sql(schema)["traceparent"], thread_id, TRACEPARENT)
    return str(found) if found else None


async def usage(conn: Connection, schema: str, thread_id: str, since: str | None) -> dict[str, Any]:
    """What calls since a checkpoint come to: `llm_paid`, `input_tokens`, `output_tokens`, `usd`, `offline`."""
    (row,) = await conn.fetch(_sql(schema)["usage"], thread_id, since)
    return dict(row)


async def asked_again(conn: Connection, schema: str, thread_id: str) -> list[str]:
    """Ids of tasks that ask a human anew because the facts they had shown moved, as often as that was so."""
    return list(await conn.fetchval(_sql(schema)["asked_again"], thread_id))
