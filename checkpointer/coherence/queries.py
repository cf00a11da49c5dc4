"""Statements about what was measured. Each is one round trip; `schema` is the saver's, unquoted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = [
    "FIRST",
    "Window",
    "finished",
    "kept",
    "kept_since",
    "measured_of",
    "now",
    "put_reconciliation",
    "reconciliations",
    "sums",
]

FIRST = (datetime.min.replace(tzinfo=UTC), "", "", "")  # minus infinity, as the driver says it
_sql = beside(__file__)


class Window(NamedTuple):
    """What is asked about.

    Attributes:
        since: from then on, by the database's clock.
        until: to then, exclusive.
        graph: only threads of this graph; `None` for all.
    """

    since: datetime
    until: datetime
    graph: str | None


async def now(conn: Connection, schema: str) -> datetime:
    """The database's clock."""
    moment: datetime = await conn.fetchval(_sql(schema)["now"])
    return moment


async def kept_since(conn: Connection, schema: str, window: Window, most: int) -> datetime | None:
    """The moment of the latest measured super-step that there is no room for; `None` if there is room for all."""
    found: datetime | None = await conn.fetchval(_sql(schema)["kept_since"], *window, most)
    return found


async def kept(
    conn: Connection, schema: str, window: Window, after: Sequence[Any], most: int
) -> Sequence[asyncpg.Record]:
    """A page of measured super-steps and inputs, in the order of time."""
    return await conn.fetch(_sql(schema)["kept"], *window, *after, most)


async def sums(conn: Connection, schema: str, name: str, window: Window) -> Sequence[asyncpg.Record]:
    """The rows of `steps`, `calls`, `deployments` or `flows`."""
    return await conn.fetch(_sql(schema)[name], *window)


async def reconciliations(conn: Connection, schema: str, window: Window) -> asyncpg.Record:
    """How many flows decided again, and how many of them otherwise."""
    (row,) = await conn.fetch(_sql(schema)["reconciliations"], *window)
    return row


async def finished(conn: Connection, schema: str, window: Window, most: int) -> list[str]:
    """Threads that have completed in the window, any so many of them."""
    return [row["thread_id"] for row in await conn.fetch(_sql(schema)["finished"], *window, most)]


async def measured_of(conn: Connection, schema: str, thread_id: str, after: str) -> Sequence[asyncpg.Record]:
    """Super-steps of a thread after a checkpoint in their order: namespace, id, record. Forks and updates have none."""
    return await conn.fetch(_sql(schema)["measured_of"], thread_id, after)


async def put_reconciliation(conn: Connection, schema: str, values: Sequence[Any]) -> None:
    """Store that a flow decided again: the columns of its row in their order, without the last one."""
    await conn.execute(_sql(schema)["put_reconciliation"], *values)
