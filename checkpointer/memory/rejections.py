"""What to say of statements of the memory that the database rejects, by their SQLSTATE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from superstep.checkpointer.database.errors import schema_missing
from superstep.checkpointer.database.vectors import WHERE_VECTORS_ARE, vectors_missing
from superstep.runtime.faults import MemoryInvalid

if TYPE_CHECKING:
    from superstep.checkpointer.database.database import Database

__all__ = ["explained"]

_NO_TABLES: Final = ("42P01", "3F000")
_NO_TYPE: Final = "42704"
_OTHER_DIMENSIONS: Final = "22000"


async def explained(error: Exception, database: Database) -> Exception:
    """What to raise for something that the database rejected."""
    state = getattr(error, "sqlstate", None)
    if state in _NO_TABLES:
        return schema_missing(database.schema)
    if state == _NO_TYPE:
        (found,) = await database.autocommit(lambda conn: conn.fetch(WHERE_VECTORS_ARE))
        return vectors_missing(found) or error
    if state == _OTHER_DIMENSIONS:
        return MemoryInvalid(
            "Items were put with vectors of other dimensions than what is searched for: by another embedder. Put them "
            "again with this one, or search with the one that embedded them."
        )
    return error
