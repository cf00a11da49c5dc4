"""A staged write that goes along with the checkpoint, in one statement: a round trip less for nodes that write once.

It is the first part of that statement, so it is done first, and its rows are counted by it. It has to be the only write
of the super-step, and of the task that is last in order: nothing is looked at between it and the checkpoint. Only
statements that were applied by themselves before, in this process, go along: the database has accepted their text.

Which interleavings could break it, and what stops them: none that could not break the two statements. Both are in one
transaction, in the same order, with the same locks. If the database rejects the statement, it does not tell which part
is at fault: the commit is tried again with the two apart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from superstep.checkpointer.commit.queries import Carried, put_after
from superstep.checkpointer.database.errors import DRIVER_ERRORS, is_collision, is_lost, is_serialization_failure
from superstep.checkpointer.step.read_set import Staged
from superstep.checkpointer.step.statements import writes_rows
from superstep.checkpointer.step.tokens import Kind, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.commit.queries import Put
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.read_set import Effect

__all__ = ["Load", "TryApart", "carried", "load_of", "may_go_along", "note_applied"]

_REFUSED = ("0A", "42")  # classes of SQLSTATEs: of what cannot be part of a larger statement, among others


class TryApart(asyncpg.SerializationError):
    """The database has rejected both together. As with others of this class, the transaction is run again."""


class Load(NamedTuple):
    """The staged write that goes along, and whose it is."""

    effect: Effect
    staged: Staged


def load_of(effects: Sequence[Effect], database: Database) -> Load | None:
    """The write of these effects, in order, that may go along with their checkpoint."""
    if not effects or len(effects[-1].staged) != 1 or any(effect.staged for effect in effects[:-1]):
        return None
    (staged,) = effects[-1].staged
    return Load(effects[-1], staged) if staged.sql in database.carries and type(staged) is Staged else None


def note_applied(staged: Staged, database: Database) -> None:
    """The database has accepted a write that was sent by itself."""
    if staged.sql not in database.carries and type(staged) is Staged and may_go_along(staged.sql):
        database.carries.add(staged.sql)


@lru_cache(maxsize=1024)
def may_go_along(sql: str) -> bool:
    """Whether it can be a part of a larger statement that counts its rows."""
    if not writes_rows(sql):
        return False
    found = list(tokens(sql))
    return found[0].text in ("insert", "update", "delete") and not any(
        token.kind is Kind.STRANGE or (token.kind is Kind.WORD and token.text == "returning") for token in found
    )


async def carried(conn: Connection, database: Database, put: Put, load: Load) -> Carried:
    """Store a checkpoint of a run on the root namespace with the write in front of it. See `put_as_owner`.

    Raises:
        TryApart: the database rejected it.
    """
    try:
        return await put_after(conn, database.schema, put, load.staged.sql, load.staged.args)
    except (*DRIVER_ERRORS, ValueError, TypeError) as e:
        if is_serialization_failure(e) or is_lost(e, conn) or is_collision(e):
            raise  # a collision is tried again in a fresh snapshot in any case, with the two apart
        if (getattr(e, "sqlstate", None) or "")[:2] in _REFUSED:
            database.carries.discard(load.staged.sql)
        raise TryApart(f"together with its checkpoint the write failed: {type(e).__name__}") from e
