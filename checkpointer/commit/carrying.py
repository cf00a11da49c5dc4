"""A staged write that goes along with the checkpoint, in one statement: a round trip less for nodes that write once.

It is the first part of that statement, so it is done first, and its rows are counted by it. It has to be the only write
of the super-step, and of the task that is last in order: nothing is looked at between it and the checkpoint. Only
statements that were applied by themselves before, in this process, go along: the database has accepted their text. None
does where guards are declared, or a run is validated as a whole: what is stored then has to be read after the write.

Which interleavings could break it, and what stops them: none that could not break the two statements. Both are in one
transaction, in the same order, with the same locks. What a statement does at its end would come after the lock of the
thread's row, and a program that locks its own rows first would wait in a circle: so nothing goes along that writes to a
table with triggers or foreign keys that are looked at then, or to anything but a table (`_PLAIN`, asked once for each
text). Of an update of columns that a foreign key does not rest on, nothing is looked at.

If the database rejects the statement, it does not tell which part is at fault: the commit is tried again with the two
apart. Unless a value was at fault, that text does not go along any more.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from superstep.checkpointer.commit.queries import Carried, put_after
from superstep.checkpointer.database.errors import DRIVER_ERRORS, is_collision, is_lost, is_serialization_failure
from superstep.checkpointer.step.read_set import Staged
from superstep.checkpointer.step.tokens import Kind, tokens
from superstep.runtime.sqlfile import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.commit.queries import Put
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.step.read_set import Effect

__all__ = ["Load", "TryApart", "carried", "load_of", "note_applied", "target_of"]

_OF_VALUES = ("22", "23", "P0")  # classes of SQLSTATEs: of values, constraints, and what functions raise

_PLAIN = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class c
    WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind = 'r' AND NOT c.relhasrules AND NOT c.relrowsecurity
    AND NOT c.relhassubclass
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
        WHERE t.tgrelid = c.oid AND t.tgtype & $2::int <> 0 AND t.tgtype & 66 = 0
        AND NOT (t.tgisinternal AND p.proname LIKE 'RI\\_FKey\\_%\\_upd')))
"""
"""$1 table, as a statement names it $2 bits of what is done, as in `pg_trigger.tgtype` (66: before it, or instead)"""

_BITS = {"insert": 4, "delete": 8, "update": 16}


class TryApart(asyncpg.SerializationError):
    """The database has rejected both together. As with others of this class, the transaction is run again."""


class Target(NamedTuple):
    """What a statement writes to: a table as `to_regclass` reads it, and what it does there, see `_PLAIN`."""

    table: str
    bits: int


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


async def note_applied(staged: Staged, database: Database, conn: Connection) -> None:
    """The database has accepted a write that was sent by itself, in this transaction."""
    sql = staged.sql
    if sql in database.carries or sql in database.apart or type(staged) is not Staged:
        return
    if (target := target_of(sql)) is not None:
        plain = await conn.fetchval(_PLAIN, target.table, target.bits)
        (database.carries if plain else database.apart).add(sql)


@lru_cache(maxsize=1024)
def target_of(sql: str) -> Target | None:
    """What an INSERT, UPDATE or DELETE writes to that can, by its text, be part of a statement that counts its rows."""
    found = list(tokens(sql))
    all_words = {token.text for token in found if token.kind is Kind.WORD}
    if "returning" in all_words or any(token.kind is Kind.STRANGE for token in found):
        return None
    words = [token.text if token.kind is Kind.WORD else "" for token in found[:3]]
    if words[:1] == ["update"]:
        at = 2 if words[1:2] == ["only"] else 1
    elif words[:2] in (["insert", "into"], ["delete", "from"]):
        at = 3 if words[2:3] == ["only"] else 2
    else:
        return None
    parts = list[str]()
    for token in found[at : at + 5]:
        is_name = token.kind in (Kind.WORD, Kind.QUOTED)
        if is_name != (len(parts) % 2 == 0) or not (is_name or token.text == "."):
            break
        parts.append(quote_identifier(token.text) if is_name else ".")
    bits = _BITS[words[0]] | (_BITS["update"] if "conflict" in all_words else 0)
    return Target("".join(parts), bits) if len(parts) % 2 else None


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
        if (getattr(e, "sqlstate", None) or _OF_VALUES[0])[:2] not in _OF_VALUES:  # the driver's own are of values
            database.carries.discard(load.staged.sql)
            database.apart.add(load.staged.sql)
        raise TryApart(f"together with its checkpoint the write failed: {type(e).__name__}") from e
