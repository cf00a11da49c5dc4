"""What the memory holds, as it is returned. Pure data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from superstep.checkpointer.memory.values import value_of

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Fact", "Memory", "MemoryVersion", "Origin", "Row"]


class Row(Protocol):
    """A row, by the names of its columns."""

    def __getitem__(self, column: str, /) -> Any:
        """The value of a column."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A read that a memory rests on: its statement, without arguments, and the digest of its rows."""

    sql: str
    digest: str


@dataclass(frozen=True, slots=True)
class Origin:
    """The task that put a version.

    Attributes:
        thread_id: the thread.
        ns: the namespace of the graph; `""` is the outermost.
        checkpoint_id: the checkpoint that the task's super-step started from.
        task_id: LangGraph's id of the task.
        node: its name.
        facts: what the task had read through its step when it put the item, in that order.
    """

    thread_id: str
    ns: str
    checkpoint_id: str
    task_id: str
    node: str
    facts: tuple[Fact, ...] = ()

    def columns(self) -> tuple[str, str, str, str, str, str]:
        """As they are stored."""
        facts = json.dumps([[each.sql, each.digest] for each in self.facts], ensure_ascii=False)
        return self.thread_id, self.ns, self.checkpoint_id, self.task_id, self.node, facts

    @classmethod
    def of_row(cls, row: Row) -> Origin | None:
        """`None` for what was put outside of a super-step."""
        if row["thread_id"] is None:
            return None
        facts = tuple(Fact(*each) for each in json.loads(row["facts"] or "[]"))
        return cls(row["thread_id"], row["ns"], row["checkpoint_id"], row["task_id"], row["node"], facts)


@dataclass(frozen=True, slots=True)
class MemoryVersion:
    """One version of an item.

    Attributes:
        namespace: of the item.
        key: of the item.
        version: numbers count from 1.
        value: what it says.
        valid_from: when it was stored.
        valid_to: when another took its place, or the item was deleted or expired; `None` if it counts now.
        expires_at: when it expires, if it does.
        origin: who put it; `None` if that was no task of a flow.
    """

    namespace: tuple[str, ...]
    key: str
    version: int
    value: dict[str, Any]
    valid_from: datetime
    valid_to: datetime | None
    expires_at: datetime | None
    origin: Origin | None

    @classmethod
    def of_row(cls, row: Row) -> MemoryVersion:
        """Of a row of `versions`."""
        return cls(
            namespace=tuple(row["namespace"]),
            key=row["key"],
            version=row["version"],
            value=value_of(row["value"]),
            valid_from=row["valid_from"],
            valid_to=row["valid_to"],
            expires_at=row["expires_at"],
            origin=Origin.of_row(row),
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """One item, as listings show it.

    Attributes:
        namespace: of the item.
        key: of the item.
        value: what it says.
        created_at: when it was put first.
        updated_at: when it was put last.
        expires_at: when it expires, if it does.
        version: numbers count from 1.
        score: how near it is to what was searched for: 1 in the same direction, 0 at a right angle.
        origin: who put it; `None` if that was no task of a flow.
    """

    namespace: tuple[str, ...]
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    version: int
    score: float | None
    origin: Origin | None
