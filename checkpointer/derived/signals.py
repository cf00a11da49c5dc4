"""What a running super-step reads of derived state: statements with their arguments, and what their rows say. Pure.

A signal is read in two statements. The first is the fact: one row with the values of one key. The second says up to
which event that is, and is none: as a fact it would change with every batch, and every decision with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from superstep.checkpointer.derived.aggregates import Aggregate
from superstep.checkpointer.derived.paths import Misfit, key_of, loads
from superstep.checkpointer.derived.windows import window_of
from superstep.runtime.faults import AggregateNotFound, AggregateOutdated, ConfigError
from superstep.runtime.sqlfile import beside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import asyncpg

__all__ = [
    "IngestionPoint",
    "Key",
    "Signal",
    "ingestion_statement",
    "level_of",
    "level_statement",
    "shown_statement",
    "signal_of",
    "signal_statement",
]

Key: TypeAlias = "str | int | float | Decimal | bool | Sequence[str | int | float | Decimal | bool]"
"""A key, or the parts of one in the order of their paths."""

_sql = beside(__file__)
_DIVISION = Context(prec=28)
_MEASURED = {"count": "s.numbers[1]", "sum": "s.numbers[2]", "distinct": "s.members"}  # in a row of `signal`, named s


@dataclass(frozen=True, slots=True)
class IngestionPoint:
    """Up to where events are ingested.

    Attributes:
        point: how many batches are committed.
        watermark: everything up to this event time has been seen, as far as partitions that are still being read are in
            order; `None` if there are no events.
    """

    point: int
    watermark: datetime | None


@dataclass(frozen=True, slots=True)
class Signal:
    """What an aggregate says of one key.

    Attributes:
        name: of the aggregate.
        key: the key, as text.
        values: by function: `count` and `distinct` are `int`, `sum` and `avg` are `Decimal` (`avg` to 28 digits),
            `last` is what was in the event, `top` a list of (value, count). Without events `avg` and `last` are `None`.
        since: beginning of the window; `None` for all time.
        until: its end, which is not in it.
        point: ingestion point of the snapshot that it was read in.
        watermark: that of the snapshot, see `IngestionPoint`.
    """

    name: str
    key: str
    values: Mapping[str, Any]
    since: datetime | None
    until: datetime | None
    point: int
    watermark: datetime | None

    @property
    def value(self) -> Any:
        """The value of the function that was declared first."""
        return next(iter(self.values.values()))


def signal_statement(schema: str, name: str, key: Key, at: datetime | None) -> tuple[str, str, str, datetime | None]:
    """Finds the values of a key, in the window that has a moment; by default the one that has the watermark.

    Raises:
        ConfigError: the key is none, or the moment has no time zone.
    """
    return (_sql(schema)["signal"], *_asked(name, key, at))


def shown_statement(schema: str, name: str, key: Key, at: datetime | None) -> tuple[str, str, str, datetime | None]:
    """The same with the ingestion point, in one statement: for what is no fact."""
    text = f"SELECT s.*, i.* FROM ({_sql(schema)['signal']}) s, ({_sql(schema)['ingestion']}) i"  # noqa: S608 - our own
    return (text, *_asked(name, key, at))


def level_statement(
    schema: str, name: str, key: Key, thresholds: Sequence[int | Decimal], of: str, at: datetime | None
) -> tuple[Any, ...]:
    """Finds how many thresholds the value of a key has reached. That is all that is in its row.

    Raises:
        ConfigError: the key or a threshold is none, the moment has no time zone, or it is no function with thresholds.
    """
    if of not in _MEASURED:
        raise ConfigError(f"level({name!r}): of={of!r} has no thresholds. It is one of {', '.join(_MEASURED)}.")
    if any(isinstance(threshold, bool) or not isinstance(threshold, int | Decimal) for threshold in thresholds):
        raise ConfigError(f"level({name!r}): thresholds are numbers, int or Decimal.")
    reached = (
        f"(SELECT count(*) FROM unnest($4::numeric[]) AS threshold WHERE threshold <= {_MEASURED[of]})::int AS level"  # noqa: S608
    )
    text = f"SELECT s.spec, s.status, {reached} FROM ({_sql(schema)['signal']}) s"  # noqa: S608 - our own
    return (text, *_asked(name, key, at), list(thresholds))


def ingestion_statement(schema: str) -> str:
    """Finds the ingestion point and the watermark."""
    return _sql(schema)["ingestion"]


def _asked(name: str, key: Key, at: datetime | None) -> tuple[str, str, datetime | None]:
    if at is not None and at.tzinfo is None:
        raise ConfigError(f"signal({name!r}): the moment has no time zone. Give one, such as datetime.now(UTC).")
    try:
        text = key_of(_parts(key))
    except Misfit as error:
        raise ConfigError(f"signal({name!r}): the key {error}.") from None
    return name, text, at


def _parts(key: Key) -> list[Any]:
    return list(key) if isinstance(key, list | tuple) else [key]


def signal_of(
    name: str, key: Key, at: datetime | None, row: asyncpg.Record | None, seen: asyncpg.Record | None
) -> Signal:
    """What the rows say.

    Raises:
        AggregateNotFound: there is none of that name.
        AggregateOutdated: it has to be rebuilt first.
        ConfigError: the key has other parts, or a moment was given and it has no window.
    """
    declared = _declared(name, key, at, row)
    assert row is not None  # noqa: S101 - `_declared` has seen it
    assert seen is not None  # noqa: S101 - it is read like the row
    since = until = None
    moment = at or seen["watermark"]
    if declared.window is not None and declared.step is not None and moment is not None:
        since, until = window_of(moment.astimezone(UTC), declared.window, declared.step)
    values = {each: _value(each, row) for each in declared.compute}
    return Signal(name, key_of(_parts(key)), values, since, until, seen["point"], seen["watermark"])


def level_of(name: str, key: Key, of: str, at: datetime | None, row: asyncpg.Record | None) -> int:
    """How many thresholds are reached.

    Raises:
        As `signal_of`.
        ConfigError: also if the aggregate does not compute that function.
    """
    declared = _declared(name, key, at, row)
    assert row is not None  # noqa: S101 - `_declared` has seen it
    if of not in declared.compute:
        raise ConfigError(f"level({name!r}): the aggregate computes {', '.join(declared.compute)}, and no {of}.")
    level: int = row["level"]
    return level


def _declared(name: str, key: Key, at: datetime | None, row: asyncpg.Record | None) -> Aggregate:
    """The declaration in a row, if the aggregate can be read so."""
    if row is None:
        raise AggregateNotFound(
            f"There is no aggregate {name!r}. Declare it as [derived.{name}] in runtime.toml and run `runtime ingest`."
        )
    if row["status"] != "ready":
        why = "is being rebuilt" if row["status"] == "building" else "was declared otherwise than it was built"
        raise AggregateOutdated(
            f"The aggregate {name!r} {why}, and what it holds is not what is meant. Run (or wait for) "
            f"`runtime ingest rebuild {name}`."
        )
    declared = Aggregate.parsed(name, json.loads(row["spec"]), lambda part: f"{name}: {part}")
    parts = _parts(key)
    if len(parts) != len(declared.key):
        raise ConfigError(f"signal({name!r}): its keys have {len(declared.key)} parts ({', '.join(declared.key)}).")
    if at is not None and declared.window is None:
        raise ConfigError(f"signal({name!r}): the aggregate has no window, so it cannot be read at a moment.")
    return declared


def _value(function: str, row: asyncpg.Record) -> Any:
    if function == "distinct":
        return row["members"]
    if function == "last":
        return None if row["last"] is None else loads(row["last"])
    if function == "top":
        return [(value, count) for value, count in loads(row["top"] or "[]")]
    count, total = row["numbers"]
    if function == "count":
        return int(count)
    if function == "sum":
        return total
    return _DIVISION.divide(total, count) if count else None
