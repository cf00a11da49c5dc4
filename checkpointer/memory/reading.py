"""What operations that read come to: statements, and items from their rows.

Inside a super-step they are read in its snapshot, and are facts of the task, on top of which it sees what it has staged
itself. Outside they are read in a transaction of their own.

Whether an item has expired is not the database's to say: `now()` is another one each time, so no commit could validate
it. It is asked with a moment that is an argument. A single item is read without even that, so that all who ask for it
ask the same (turns are taken by the question), and when it expires is looked up beside, as no fact. So a refresh
changes nothing that anybody has read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from langgraph.store.base import GetOp, Item, ListNamespacesOp, SearchItem, SearchOp

from superstep.checkpointer.memory import queries
from superstep.checkpointer.memory.filters import conditions_of
from superstep.checkpointer.memory.namespaces import checked_key, checked_namespace, namespace_conditions
from superstep.checkpointer.memory.values import value_of, vector_text
from superstep.runtime.faults import MemoryInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.memory.own_writes import OwnWrite, OwnWrites
    from superstep.checkpointer.memory.queries import Statement, Time
    from superstep.checkpointer.memory.rows import Row

__all__ = ["Reader", "Reading", "checked_page"]

_EXACT: Final = 6  # digits: pgvector calculates with numbers of 32 bits


class Reader(Protocol):
    """What statements are read with."""

    async def fetch(self, statement: Statement, *, fact: bool = True) -> Sequence[Row]:
        """Rows. Not `fact`: they are not what a decision rests on."""


@dataclass(slots=True)
class Reading:
    """The reads of one batch.

    Attributes:
        reader: what they are read with.
        schema: where the tables are.
        time: which time is read.
        own: what the reading task has staged itself.
        to_refresh: namespaces and keys of items that were read, and live on by that.
    """

    reader: Reader
    schema: str
    time: Time
    own: OwnWrites
    to_refresh: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    async def get(self, op: GetOp) -> Item | None:
        """One item."""
        namespace = checked_namespace(op.namespace)
        key = checked_key(namespace, op.key)
        own = self.own.of(namespace, key)
        if own is not None and own.sure:
            return None if own.value is None else Item(**self._own_item(own))
        rows = await self.reader.fetch(queries.get(self.schema, namespace, key, self.time))
        if not rows or await self._has_expired(rows[0]):
            return None if own is None else Item(**self._own_item(own))
        self._note(rows, refresh=op.refresh_ttl)
        return Item(**_item(rows[0]))

    async def search(self, op: SearchOp, vector: Sequence[float] | None) -> list[SearchItem]:
        """Items of a namespace and below: the nearest to a vector first, or the latest."""
        checked_page(op.limit, op.offset)
        below = checked_namespace(op.namespace_prefix)
        own = [(each, each.distance(vector) if vector else None) for each in self.own.found(below, op.filter)]
        own = [(each, distance) for each, distance in own if vector is None or distance is not None]
        rows = await self.reader.fetch(self._search(op, below, vector, len(own)))
        found = [SearchItem(**_item(row), score=row["score"] if vector else None) for row in rows]
        added = [
            SearchItem(**self._own_item(each), score=None if distance is None else 1 - distance)
            for each, distance in own
        ]
        if own or self._hides:
            merged = [*added, *found]
            if vector is not None:
                merged.sort(key=lambda item: (-round(item.score or 0, _EXACT), item.namespace, item.key))
            found = merged[op.offset : op.offset + op.limit]
        there = {(item.namespace, item.key) for item in found}
        self._note([row for row in rows if (tuple(row["namespace"]), row["key"]) in there], refresh=op.refresh_ttl)
        return found

    async def namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        """Namespaces that have an item, in their order."""
        checked_page(op.limit, op.offset)
        conditions = [(each.match_type, checked_namespace(each.path)) for each in op.match_conditions or ()]
        if op.max_depth is not None and op.max_depth < 0:
            raise MemoryInvalid(f"The depth of namespaces is 0 or more, not {op.max_depth}.")
        first = 4 + len(self.time.conditions(1)[1])
        where = _joined(namespace_conditions(conditions, first), self.own.hidden, first)
        more = self.own.namespaces(conditions)
        limit, offset = (op.limit + op.offset, 0) if more or self._hides else (op.limit, op.offset)
        rows = await self.reader.fetch(queries.namespaces(self.schema, self.time, where, limit, offset, op.max_depth))
        found = [tuple(row["namespace"]) for row in rows]
        if not (more or self._hides):
            return found
        return sorted({*found, *(each[: op.max_depth] for each in more)})[op.offset : op.offset + op.limit]

    # -- parts ---------------------------------------------------------------------------------------------------

    @property
    def _hides(self) -> bool:
        return bool(self.own.hidden(1)[0])

    def _search(self, op: SearchOp, below: list[str], vector: Sequence[float] | None, own: int) -> Statement:
        first = (3 if vector is None else 4) + len(self.time.conditions(1)[1])
        parts, args = queries.within(below, first)
        more, values = conditions_of(op.filter, first + len(args))
        where = _joined(([*parts, *more], [*args, *values]), self.own.hidden, first)
        limit, offset = (op.limit + op.offset, 0) if own or self._hides else (op.limit, op.offset)
        if vector is None:
            return queries.search(self.schema, self.time, where, limit, offset)
        return queries.nearest(self.schema, self.time, where, limit, offset, vector_text(vector))

    async def _has_expired(self, row: Row) -> bool:
        if row["ttl_minutes"] is None or self.time.expired is None:
            return False
        asked = queries.expiry(self.schema, row["namespace"], row["key"], self.time)
        rows = await self.reader.fetch(asked, fact=False)
        return not rows or bool(rows[0]["expires_at"] <= self.time.expired)

    def _note(self, rows: Sequence[Row], *, refresh: bool) -> None:
        """Let what was read live on, unless it was read as of the past."""
        if refresh and self.time.past is None:
            self.to_refresh += [(tuple(row["namespace"]), row["key"]) for row in rows if row["ttl_minutes"] is not None]

    @staticmethod
    def _own_item(own: OwnWrite) -> dict[str, Any]:
        return {
            "namespace": own.namespace,
            "key": own.key,
            "value": own.value,
            "created_at": own.moment,
            "updated_at": own.moment,
        }


def _joined(where: tuple[list[str], list[Any]], more: Any, first: int) -> tuple[list[str], list[Any]]:
    parts, args = where
    parts_too, args_too = more(first + len(args))
    return [*parts, *parts_too], [*args, *args_too]


def _item(row: Row) -> dict[str, Any]:
    return {
        "namespace": tuple(row["namespace"]),
        "key": row["key"],
        "value": value_of(row["value"]),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def checked_page(limit: int, offset: int) -> None:
    """Raise `MemoryInvalid` unless these say how many, after how many."""
    if limit < 0 or offset < 0:
        raise MemoryInvalid(f"limit and offset are 0 or more, not {limit} and {offset}.")
