"""A typed function for each statement of `queries.sql`; `schema` is the saver's, unquoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from superstep.checkpointer.database.arrays import number_array, text_array
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from superstep.checkpointer.database.errors import Connection

__all__ = ["Logged", "Stored", "Writer", "forget", "history", "keys", "lock", "read", "store"]

_sql = beside(__file__)


class Stored(NamedTuple):
    """A shared value, as it is stored.

    Attributes:
        version: how many updates it has had.
        form: the version of the declaration that it was stored by.
        kind: of `value`; `None` while there is no value.
        value: serialized.
    """

    version: int
    form: int
    kind: str | None
    value: bytes | None


class Writer(NamedTuple):
    """Who updates a value: a task of a super-step, or nobody of any."""

    thread_id: str = ""
    ns: str = ""
    checkpoint_id: str = ""
    task_id: str = ""
    node: str = ""


class Logged(NamedTuple):
    """An update: the version that it made, the conflicts that it resolved, and itself, serialized."""

    version: int
    resolved: int
    kind: str
    value: bytes


def read(schema: str, name: str, key: str) -> tuple[str, str, str]:
    """Statement and arguments of the read of a value, for whoever keeps it as a fact."""
    return _sql(schema)["read"], name, key


async def lock(conn: Connection, schema: str, name: str, key: str) -> Stored | None:
    """A value, which no other transaction changes until this one ends. `None` if it was never written to."""
    row = await conn.fetchrow(_sql(schema)["lock"], name, key)
    return None if row is None else Stored(*row)


async def store(
    conn: Connection,
    schema: str,
    place: tuple[str, str],
    now: Stored,
    writer: Writer | None = None,
    updates: Sequence[Logged] = (),
) -> None:
    """Set a locked value, or one that was not there, and log the updates that led there if somebody made them."""
    if writer is None:
        await conn.execute(_sql(schema)["store"], *place, *now)
        return
    numbers = number_array([each.version for each in updates]), number_array([each.resolved for each in updates])
    values = text_array([each.kind for each in updates]), [each.value for each in updates]
    await conn.execute(_sql(schema)["store_logged"], *place, *now, *writer, *numbers, *values)


async def history(
    conn: Connection, schema: str, place: tuple[str, str], after: int, limit: int
) -> list[asyncpg.Record]:
    """Updates of a value, in their order, after a version."""
    return await conn.fetch(_sql(schema)["history"], *place, after, limit)


async def keys(conn: Connection, schema: str, name: str, after: str, limit: int) -> list[tuple[str, int]]:
    """Keys under a name with the versions of their values, in their order, after a key."""
    return [(row["key"], row["version"]) for row in await conn.fetch(_sql(schema)["keys"], name, after, limit)]


async def forget(conn: Connection, schema: str, name: str, key: str) -> bool:
    """Delete a value and its history; whether there was one."""
    return bool(await conn.fetchval(_sql(schema)["forget"], name, key))
