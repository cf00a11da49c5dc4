"""Shared values outside of any super-step: looking, seeding, deleting. Each call is a transaction of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from superstep.checkpointer.database.errors import is_lost, is_serialization_failure
from superstep.checkpointer.database.retry import retry
from superstep.checkpointer.shared import queries
from superstep.checkpointer.shared.declared import declaration, usable_place
from superstep.checkpointer.shared.queries import Writer
from superstep.checkpointer.shared.reductions import Reductions, loaded, update_at, value_at
from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from datetime import datetime

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.shared.reductions import Seal

__all__ = ["SharedUpdate", "forget", "history", "keys", "read", "reduce"]

_TRIES = 30


@dataclass(frozen=True, slots=True)
class SharedUpdate:
    """One update of a shared value.

    Attributes:
        version: what it made: 1 for the first update of the value, and one more for each.
        thread_id: the thread that it was made for; this and the next four are "" for an update from outside.
        checkpoint_ns: the namespace of the graph.
        checkpoint_id: the checkpoint that its super-step started from.
        task_id: LangGraph's id of the task.
        node: the task's node.
        update: what was written, as plain data.
        resolved: conflicts that the reducer resolved by it.
        form: the version of the declaration that it was made by.
        committed_at: when its transaction began, by the database's clock.
    """

    version: int
    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    task_id: str
    node: str
    update: Any
    resolved: int
    form: int
    committed_at: datetime


async def read(database: Database, seal: Seal, name: str, key: str) -> Any:
    """The value, as its model makes it; its default or `None` if there is none."""
    declared = declaration(name)
    usable_place(name, key)
    sql, *args = queries.read(database.schema, name, key)
    row = await database.autocommit(lambda conn: conn.fetchrow(sql, *args))
    if row is None:
        return declared.value(key, None, declared.version)
    return declared.value(key, loaded(value_at(seal, name, key), row["kind"], row["value"]), row["form"])


async def reduce(database: Database, seal: Seal, name: str, key: str, update: Any) -> None:
    """Merge an update at once."""
    text = declaration(name).update(key, update)

    async def once() -> None:
        async with database.transaction() as conn:
            await Reductions(database, seal).apply(conn, [(name, key, text)], Writer())

    async def failed(error: Exception, left: int) -> None:
        if is_lost(error):
            raise DatabaseUnavailable(
                f"The connection was lost while shared value {name!r} of key {key!r} was updated. Whether that was "
                f"done is not known: look at its history, and do it again if it is not there."
            ) from error
        if not left or not is_serialization_failure(error):
            raise error

    await retry(once, failed, tries=_TRIES, outage=database.outage)


async def history(database: Database, seal: Seal, name: str, key: str, after: int, limit: int) -> list[SharedUpdate]:
    """A page of updates, oldest first."""
    place = (name, key)
    rows = await database.autocommit(lambda conn: queries.history(conn, database.schema, place, after, limit))
    found = []
    for row in rows:
        text = loaded(update_at(seal, name, key, row["version"]), row["kind"], row["value"])
        found.append(
            SharedUpdate(
                version=row["version"],
                thread_id=row["thread_id"],
                checkpoint_ns=row["ns"],
                checkpoint_id=row["checkpoint_id"],
                task_id=row["task_id"],
                node=row["node"],
                update=from_json(text or "null"),
                resolved=row["resolved"],
                form=row["form"],
                committed_at=row["committed_at"],
            )
        )
    return found


async def keys(database: Database, name: str, after: str, limit: int) -> list[tuple[str, int]]:
    """A page of keys under a name, with the versions of their values."""
    return await database.autocommit(lambda conn: queries.keys(conn, database.schema, name, after, limit))


async def forget(database: Database, name: str, key: str) -> bool:
    """Delete a value with its history; whether there was one. The next update begins anew."""

    async def once() -> bool:
        async with database.transaction() as conn:
            return await queries.forget(conn, database.schema, name, key)

    async def failed(error: Exception, left: int) -> None:
        if not left or not (is_serialization_failure(error) or is_lost(error)):
            raise error

    return await retry(once, failed, tries=_TRIES, outage=database.outage)
