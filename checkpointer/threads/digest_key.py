"""The key of keyed digests, when the saver's serializer encrypts: one for all savers of a schema, kept there encrypted.

Digests have to be the same in every process, and a serializer does not tell its key. So the first that needs one makes
it, and the database's primary key decides between several that do.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from superstep.checkpointer.langgraph.encryption import at, encrypts
from superstep.checkpointer.threads.queries import running

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection

__all__ = ["digest_key", "known_digest_key"]

_NAME = "digests"
_known: WeakKeyDictionary[Database, bytes] = WeakKeyDictionary()


async def digest_key(database: Database, serde: SerializerProtocol) -> bytes | None:
    """The key; `None` without encryption. On the event loop of the database. One round trip, once.

    Raises:
        ValueNotAuthentic: the schema's key was encrypted with another key than this serializer's.
    """
    if not encrypts(serde):
        return None
    key = _known.get(database)
    if key is None:
        key = _known[database] = await database.autocommit(lambda conn: _load(conn, database.schema, serde))
    return key


def known_digest_key(database: Database, serde: SerializerProtocol) -> bytes | None:
    """As `digest_key`, without a round trip: whoever stores a checkpoint has asked for it.

    As long as nobody has, a key that is thrown away: what is digested with it says nothing to anybody.
    """
    if not encrypts(serde):
        return None
    return _known.get(database) or secrets.token_bytes(32)


async def _load(conn: Connection, schema: str, serde: SerializerProtocol) -> bytes:
    place = at(serde, "digest key", _NAME)
    row = await running.secret(conn, schema, _NAME)
    if row is None:
        await running.put_secret(conn, schema, _NAME, *place.dumps_typed(secrets.token_bytes(32)))
        row = await running.secret(conn, schema, _NAME)
    if row is None:
        raise AssertionError("what was just stored is not there")
    key: bytes = place.loads_typed((row["kind"], row["value"]))
    return key
