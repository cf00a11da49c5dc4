"""How a store is configured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.memory.queries import Time
from superstep.runtime.faults import MemoryInvalid

if TYPE_CHECKING:
    from langgraph.store.base import TTLConfig

    from superstep.checkpointer.memory.indexing import Index

__all__ = ["Options", "checked_history", "checked_moment", "checked_same", "checked_ttl", "checked_ttl_config", "now"]

_LONGEST_TTL = 1e9  # minutes: about 1,900 years


@dataclass(frozen=True, slots=True)
class Options:
    """What operations of a store need to know.

    Attributes:
        index: what is embedded, and how.
        ttl: LangGraph's configuration of times to live.
        history: how long ended versions are kept.
        readable: items may be stored readable although the saver encrypts.
        past: the moment that is read; `None` is now.
        facts: what a task reads is a fact of it.
    """

    index: Index
    ttl: TTLConfig | None = None
    history: timedelta = timedelta(days=30)
    readable: bool = False
    past: datetime | None = None
    facts: bool = True

    def time(self, moment: datetime) -> Time:
        """Which time is read at this moment."""
        if self.past is not None:
            return Time(self.past, self.past)
        omits = (self.ttl or {}).get("omit_expired", True)
        return Time(None, moment if omits else None)


def now() -> datetime:
    """The moment, by the clock of this machine."""
    return datetime.now(UTC)


def checked_ttl(ttl: Any) -> float | None:
    """Minutes to live.

    Raises:
        MemoryInvalid: it is no number of minutes above 0: nobody could ever have read the item.
    """
    if ttl is None:
        return None
    fits = isinstance(ttl, int | float) and not isinstance(ttl, bool) and math.isfinite(ttl) and 0 < ttl <= _LONGEST_TTL
    if not fits:
        raise MemoryInvalid(
            f"The time to live of an item is a number of minutes above 0 (at most {_LONGEST_TTL:.0f}), or None; not "
            f"{ttl!r}. To have it gone, delete it."
        )
    return float(ttl)


def checked_ttl_config(config: TTLConfig | None) -> TTLConfig | None:
    """LangGraph's configuration, if it is one."""
    if config is not None:
        checked_ttl(config.get("default_ttl"))
        checked_ttl(config.get("sweep_interval_minutes"))
    return config


def checked_history(history: timedelta) -> timedelta:
    """How long ended versions are kept.

    Raises:
        MemoryInvalid: it is no time above 0.
    """
    if not isinstance(history, timedelta) or history <= timedelta(0):
        raise MemoryInvalid(f"history is a timedelta above 0, not {history!r}. To have nothing left, use aforget().")
    return history


def checked_moment(moment: datetime | None) -> datetime | None:
    """A moment to read the memory of, if it is one.

    Raises:
        MemoryInvalid: it has no time zone.
    """
    if moment is not None and moment.tzinfo is None:
        raise MemoryInvalid(
            f"The memory is read as of a moment with a time zone, such as datetime.now(UTC); not {moment!r}."
        )
    return moment


def checked_same(same: float | None) -> float | None:
    """Up to which distance two memories say the same.

    Raises:
        MemoryInvalid: it is no cosine distance.
    """
    if same is None:
        return None
    if isinstance(same, bool) or not isinstance(same, int | float) or not 0 <= same <= 2:
        raise MemoryInvalid(f"same is a cosine distance from 0 to 2, or None to compare keys alone; not {same!r}.")
    return float(same)
