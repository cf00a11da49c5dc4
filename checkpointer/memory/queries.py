"""A typed function for each statement of `queries.sql`: the text with its arguments; `schema` is unquoted.

Statements are read by a super-step, staged, or executed in a transaction: so they are made here, and run elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from superstep.checkpointer.memory.namespaces import bounds
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from superstep.checkpointer.memory.indexing import Vectors
    from superstep.checkpointer.memory.rows import Origin

__all__ = [
    "NewVersion",
    "Statement",
    "Time",
    "delete",
    "expire",
    "expiry",
    "forget",
    "get",
    "namespaces",
    "nearest",
    "origins",
    "prune",
    "put",
    "refresh",
    "remember",
    "search",
    "sql",
    "twin",
    "versions",
    "within",
]

sql = beside(__file__)

Statement = tuple[str, tuple[Any, ...]]

_NO_ORIGIN: Final = (None,) * 6
_NOW: Final = "valid_to = 'infinity'"


@dataclass(frozen=True, slots=True)
class Time:
    """Which time is read.

    Attributes:
        past: a moment in the past; `None` is now.
        expired: what has expired by this moment is not there; `None`: it is, until it is swept.
    """

    past: datetime | None = None
    expired: datetime | None = None

    def version_conditions(self, first: int) -> tuple[list[str], list[Any]]:
        """SQL for the version of an item that counted then, with arguments from number `first` on."""
        if self.past is None:
            return [_NOW], []
        return [f"valid_from <= ${first} AND valid_to > ${first}"], [self.past]

    def conditions(self, first: int) -> tuple[list[str], list[Any]]:
        """The same, and that it had not expired."""
        parts, args = self.version_conditions(first)
        if self.expired is not None:
            parts.append(f"(expires_at IS NULL OR expires_at > ${first + len(args)})")
            args.append(self.expired)
        return parts, args


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a put or a remember stores.

    Attributes:
        namespace: of the item.
        key: of the item.
        value: as JSON.
        ttl: minutes to live.
        vectors: by which it is found.
        history: seconds that ended versions are kept.
        origin: where it comes from.
        moment: when it was put, by the clock of this machine.
    """

    namespace: list[str]
    key: str
    value: str
    ttl: float | None
    vectors: Vectors
    history: float
    origin: Origin | None
    moment: datetime

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments of the statements."""
        columns = _NO_ORIGIN if self.origin is None else self.origin.columns()
        vectors = self.vectors
        about = self.namespace, self.key, self.value, self.ttl, vectors.fields, vectors.texts, self.history
        return *about, *columns, self.moment


def within(labels: Sequence[str], first: int) -> tuple[list[str], list[Any]]:
    """SQL for items in this namespace and below, with arguments from number `first` on."""
    if not labels:
        return [], []
    return [f"namespace >= ${first}::text[]", f"namespace < ${first + 1}::text[]"], list(bounds(labels))


# -- reading


def get(schema: str, namespace: list[str], key: str, time: Time) -> Statement:
    """The version of an item, whether it has expired or not."""
    conditions, args = time.version_conditions(3)
    return sql(schema)["get"].replace("/*when*/", " AND ".join(conditions)), (namespace, key, *args)


def expiry(schema: str, namespace: list[str], key: str, time: Time) -> Statement:
    """When that version expires."""
    conditions, args = time.version_conditions(3)
    return sql(schema)["expiry"].replace("/*when*/", " AND ".join(conditions)), (namespace, key, *args)


def search(schema: str, time: Time, where: tuple[list[str], list[Any]], limit: int, offset: int) -> Statement:
    """Items, the latest first. The arguments of `where` begin with number 3 + those of the time."""
    return _filtered(sql(schema)["search"], time, where, (limit, offset))


def nearest(
    schema: str, time: Time, where: tuple[list[str], list[Any]], limit: int, offset: int, vector: str
) -> Statement:
    """Items with vectors, the nearest first. The arguments of `where` begin with number 4 + those of the time."""
    return _filtered(sql(schema)["nearest"], time, where, (limit, offset, vector))


def namespaces(
    schema: str, time: Time, where: tuple[list[str], list[Any]], limit: int, offset: int, depth: int | None
) -> Statement:
    """Namespaces in their order. The arguments of `where` begin with number 4 + those of the time."""
    return _filtered(sql(schema)["namespaces"], time, where, (limit, offset, depth))


def _filtered(text: str, time: Time, where: tuple[list[str], list[Any]], before: tuple[Any, ...]) -> Statement:
    when, moments = time.conditions(len(before) + 1)
    conditions, args = where
    text = text.replace("/*when*/", " AND ".join(when)).replace("/*where*/", " AND ".join(["true", *conditions]))
    return text, (*before, *moments, *args)


def versions(schema: str, namespace: list[str], key: str) -> Statement:
    """All versions of an item, the latest first."""
    return sql(schema)["versions"], (namespace, key)


def origins(schema: str, items: Sequence[tuple[Sequence[str], str, int]]) -> Statement:
    """What is known of versions beside what they say: a row for each namespace, key and number, in their order."""
    spaces = [".".join(namespace) for namespace, _, _ in items]
    return sql(schema)["origins"], (spaces, [key for _, key, _ in items], [version for _, _, version in items])


def twin(schema: str, namespace: list[str], key: str, vectors: Vectors, same: float) -> Statement:
    """The item that says the same."""
    return sql(schema)["twin"], (namespace, key, vectors.texts, same)


# -- writing


def put(schema: str, new: NewVersion) -> Statement:
    """Make this the version that counts."""
    return sql(schema)["put"], new.args


def remember(schema: str, new: NewVersion, same: float | None) -> Statement:
    """The same, unless the item is there; or one that says the same, with a distance."""
    if same is None:
        return sql(schema)["remember_key"], new.args
    return sql(schema)["remember_near"], (*new.args, same)


def delete(schema: str, namespace: list[str], key: str) -> Statement:
    """End the version that counts."""
    return sql(schema)["delete"], (namespace, key)


def forget(schema: str, namespace: list[str], key: str | None) -> Statement:
    """Delete all versions of an item, or of all in a namespace and below."""
    if key is not None:
        return sql(schema)["forget"], (namespace, key)
    return sql(schema)["forget_below"], bounds(namespace)


def refresh(schema: str, namespace: list[str], key: str) -> Statement:
    """Let an item live on that was read."""
    return sql(schema)["refresh"], (namespace, key)


def expire(schema: str, most: int) -> Statement:
    """End the time of what has expired."""
    return sql(schema)["expire"], (most,)


def prune(schema: str, history: float, most: int) -> Statement:
    """Delete what ended more than so many seconds ago."""
    return sql(schema)["prune"], (history, most)
