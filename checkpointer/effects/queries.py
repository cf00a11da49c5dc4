"""A typed function for each statement of `queries.sql`; `schema` is the saver's, unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.database.pool import AnyConnection
    from superstep.checkpointer.effects.emitted import Emitted

__all__ = [
    "Put",
    "change",
    "claim",
    "failed",
    "forget_orphan",
    "in_line",
    "listing",
    "look",
    "next_in_line",
    "put_out",
    "queue_release",
    "set_queue_release",
    "succeeded",
]

_sql = beside(__file__)


class Put(NamedTuple):
    """What became of an effect: its state, `None` if it was not put; the one that was sent from its place before."""

    state: str | None
    sent: str | None


async def queue_release(conn: AnyConnection, schema: str) -> str | None:
    """The release that made the tables of the queue; `None` if none has."""
    found: str | None = await conn.fetchval(_sql(schema)["queue_release"])
    return found


async def set_queue_release(conn: AnyConnection, schema: str, release: str) -> None:
    """Note which release has made them."""
    await conn.execute(_sql(schema)["set_queue_release"], release)


async def put_out(
    conn: Connection,
    schema: str,
    effect_id: str,
    thread_id: str,
    effect: Emitted,
    payload: tuple[str, bytes],
    choice: str | None,
) -> Put:
    """Put an effect into the outbox."""
    e = effect
    row = await conn.fetchrow(
        _sql(schema)["put_out"],
        *(effect_id, thread_id, e.ns, e.checkpoint_id, e.task_id, e.nth, e.root, e.nodes, e.key, e.node),
        *(choice, e.topic, *payload),
    )
    assert row is not None  # noqa: S101 - it selects without a table
    return Put(*row)


async def look(conn: Connection, schema: str, effect_id: str) -> asyncpg.Record | None:
    """An effect, and what stands in its way."""
    return await conn.fetchrow(_sql(schema)["look"], effect_id)


async def in_line(conn: Connection, schema: str, effect_id: str) -> bool:
    """Whether one before it in its line is not settled, when whoever is settling that has done so. READ COMMITTED."""
    return await conn.fetchval(_sql(schema)["in_line"], effect_id) is not None


async def claim(conn: Connection, schema: str, effect_id: str, seconds: float) -> int | None:
    """Claim it for so long: which attempt that is; `None` if it cannot be claimed."""
    found: int | None = await conn.fetchval(_sql(schema)["claim"], effect_id, seconds)
    return found


async def succeeded(conn: Connection, schema: str, effect_id: str, found: Sequence[str], state: str) -> None:
    """It was delivered, or compensated, if it is in one of the states in which it may be found then."""
    await conn.execute(_sql(schema)["succeeded"], effect_id, list(found), state)


async def failed(
    conn: Connection, schema: str, effect_id: str, was: str, state: str, attempt: int, failure: str
) -> None:
    """An attempt has failed."""
    await conn.execute(_sql(schema)["failed"], effect_id, was, state, attempt, failure)


async def next_in_line(conn: Connection, schema: str, effect_id: str) -> str | None:
    """Which effect is first in the line of this one."""
    found: str | None = await conn.fetchval(_sql(schema)["next_in_line"], effect_id)
    return found


async def forget_orphan(conn: Connection, schema: str, effect_id: str) -> None:
    """Delete it if it is settled and its thread is gone."""
    await conn.execute(_sql(schema)["forget_orphan"], effect_id)


async def listing(
    conn: Connection, schema: str, states: Sequence[str] | None, before: int | None, limit: int
) -> list[asyncpg.Record]:
    """Effects, newest first."""
    return await conn.fetch(_sql(schema)["listing"], states, before, limit)


async def change(
    conn: Connection, schema: str, effect_id: str, states: Sequence[str], become: Sequence[str]
) -> str | None:
    """Change its state: the new one; `None` if it was in none of these, or a worker is at it."""
    found: str | None = await conn.fetchval(_sql(schema)["change"], effect_id, list(states), list(become))
    return found
