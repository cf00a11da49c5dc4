"""How long a super-step holds its transaction, as callers say it and as seconds. Pure."""

from __future__ import annotations

from superstep.runtime.faults import ConfigError

__all__ = ["held_at_most", "held_idle"]

_HOLD_MAX = 1.0


def held_idle(hold_idle: float | str) -> float:
    """Seconds between reads.

    Raises:
        ConfigError: it is neither a number of seconds nor "forever".
    """
    if hold_idle == "forever":
        return float("inf")
    if isinstance(hold_idle, int | float) and hold_idle >= 0:
        return float(hold_idle)
    raise ConfigError(f'hold_idle must be a number of seconds, 0 or more, or "forever"; not {hold_idle!r}.')


def held_at_most(hold_idle: float | str, hold_max: float | None) -> float:
    """Seconds in all; if nothing is said, by how long it is held idle.

    Raises:
        ConfigError: it is no number of seconds.
    """
    if hold_max is None:
        return float("inf") if hold_idle == "forever" else _HOLD_MAX
    if isinstance(hold_max, bool) or not isinstance(hold_max, int | float) or not hold_max >= 0:
        raise ConfigError(f"hold_max must be a number of seconds, 0 or more; not {hold_max!r}.")
    return float(hold_max)
