"""What a source gives, and what becomes of it. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["Event", "Format", "Reason", "Record", "Refusal"]

Reason: TypeAlias = Literal["malformed", "unknown-type", "misfit", "future", "schema-changed", "rejected"]
"""Why an event is in quarantine.

- malformed: it cannot be read as an event;
- unknown-type: no aggregate is over events of its type;
- misfit: it lacks what an aggregate over it needs;
- future: its time is more than a day ahead of the database's clock;
- schema-changed: its table has other columns than before;
- rejected: the database did not take it.
"""

_KINDS = ("jsonl", "debezium")


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a source. (source, partition, offset) is its identity.

    Attributes:
        partition: records of one partition are in order.
        offset: its place there, 0 or more, growing.
        body: as the source has it.
    """

    partition: str
    offset: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Format:
    """How bodies are read.

    Attributes:
        kind: `jsonl`: the body is a JSON object, with the paths below. `debezium`: Debezium's envelope as the JSON
            converter of Kafka Connect writes it, with or without its schema.
        type: path to the event's type.
        at: path to its time: ISO 8601 with a time zone, or milliseconds since 1970.
        id: path to an id that is unique within the source, if it has one. Two records of one id are one event.
    """

    kind: str = "jsonl"
    type: str = "type"
    at: str = "at"
    id: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ConfigError(f"There is no format {self.kind!r}. Known: {', '.join(_KINDS)}.")

    def dump(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> Format:
        """What `dump` gave."""
        return cls(**stored)


@dataclass(frozen=True, slots=True)
class Event:
    """A record that was read as an event.

    Attributes:
        type: its type.
        at: its time.
        payload: what it says; numbers are `int` and `Decimal`.
        text: the JSON of the payload.
        id: unique within the source; `None` if it has none.
        relation: the table that it is a change of.
        columns: that table's columns, sorted, as far as they are known.
    """

    type: str
    at: datetime
    payload: Any
    text: str
    id: str | None = None
    relation: str | None = None
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that cannot be ingested, for now."""

    reason: Reason
    why: str
