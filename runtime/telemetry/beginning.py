"""When something began that is to be told of once it is over. Knows nothing of OpenTelemetry."""

from __future__ import annotations

import time
from typing import NamedTuple

__all__ = ["Beginning"]


class Beginning(NamedTuple):
    """When something began, by the clock on the wall and by one that nobody sets.

    Attributes:
        at: nanoseconds since 1970.
        tick: seconds, as `time.perf_counter` counts them.
    """

    at: int
    tick: float

    @classmethod
    def ago(cls, ms: float = 0.0) -> Beginning:
        """So many milliseconds ago."""
        return cls(time.time_ns() - int(ms * 1e6), time.perf_counter() - ms / 1000)

    def seconds(self) -> float:
        """Since then."""
        return time.perf_counter() - self.tick
