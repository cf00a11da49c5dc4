"""Which release of PgQueuer made the tables of the queue: asked at every `setup`, without importing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.checkpointer.effects import queries

if TYPE_CHECKING:
    from superstep.checkpointer.database.pool import AnyConnection

__all__ = ["installed_release", "is_current", "note_release"]


def installed_release() -> str:
    """Of the package in this environment."""
    from importlib.metadata import version  # costs some milliseconds

    return version("pgqueuer")


async def is_current(conn: AnyConnection, schema: str) -> bool:
    """Whether that release made the tables, or a newer one, of another member of the fleet."""
    made_by = await queries.queue_release(conn, schema)
    return made_by is not None and _parts(made_by) >= _parts(installed_release())


async def note_release(conn: AnyConnection, schema: str) -> None:
    """Note that it has made them."""
    await queries.set_queue_release(conn, schema, installed_release())


def _parts(release: str) -> list[int]:
    return [int(part) for part in release.split(".") if part.isdigit()]
