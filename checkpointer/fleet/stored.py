"""A request as it is stored: by the saver's serializer, bound to the row that it is in."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from superstep.checkpointer.children.spawned import OF_RUN
from superstep.checkpointer.fleet.runs import Request
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["OF_RUN", "OF_SCHEDULE", "dump_request", "load_request", "move_request"]

OF_SCHEDULE = "request of a schedule"


def dump_request(serde: SerializerProtocol | None, request: Request, column: str, key: str) -> tuple[str, bytes]:
    """For the row of this key.

    Raises:
        ValueNotSerializable: it would not come back as itself.
        ConfigError: there is no serializer.
    """
    from superstep.checkpointer.langgraph.codec import dump
    from superstep.checkpointer.langgraph.encryption import at

    if serde is None:
        raise ConfigError("Runs are submitted with a TransactionalSaver, which knows how they are stored.")
    values = {each.name: getattr(request, each.name) for each in fields(Request)}
    return dump(at(serde, column, key), values, f"The {column}")


def load_request(serde: SerializerProtocol | None, stored: tuple[str, bytes], column: str, key: str) -> Request:
    """The inverse.

    Raises:
        ValueNotAuthentic: it was stored with another key, for another row, or changed since.
        ConfigError: there is no serializer.
    """
    from superstep.checkpointer.langgraph.encryption import at, refuse_encrypted

    if serde is None:
        raise ConfigError("Requests are read with a TransactionalSaver, which knows how they are stored.")
    refuse_encrypted(serde, stored[0])
    return Request(**at(serde, column, key).loads_typed(stored))


def move_request(
    serde: SerializerProtocol | None, stored: tuple[str, bytes], schedule: str, run_id: str
) -> tuple[str, bytes]:
    """The request of a schedule, for one of its runs: as it was dumped, whatever classes it is made of.

    Raises:
        ValueNotAuthentic: it was stored with another key, for another row, or changed since.
        ConfigError: there is no serializer.
    """
    from superstep.checkpointer.langgraph.encryption import at, encrypts, moved, refuse_encrypted

    if serde is None:
        raise ConfigError("Runs are submitted with a TransactionalSaver, which knows how they are stored.")
    refuse_encrypted(serde, stored[0])
    if not encrypts(serde):
        return stored
    return moved(at(serde, OF_SCHEDULE, schedule), at(serde, OF_RUN, run_id), stored)
