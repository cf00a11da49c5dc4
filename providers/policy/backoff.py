"""How long to wait before the next attempt on the same deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from superstep.providers.policy.failures import Failure

__all__ = ["LONGEST", "pause", "spread"]

BASE = 0.2  # seconds
CAP = 4.0  # seconds
LONGEST = 10.0  # seconds; a server that wants longer is left for another deployment
SPREAD = 0.1  # of the server's own delay


def pause(attempt: int, failure: Failure, rng: random.Random) -> float | None:
    """Seconds to wait after the `attempt`-th failed attempt (1, 2, …) on a deployment; `None`: do not wait, move on.

    Without a word of the server: uniformly between 0 and 0.2, 0.4, 0.8, … at most 4 seconds ("full jitter": M. Brooker,
    "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). With a `retry-after`: `spread`, so never less.
    """
    if failure.retry_after is None:
        return rng.uniform(0.0, min(CAP, BASE * 2.0 ** min(attempt - 1, 30)))
    return None if failure.retry_after > LONGEST else spread(failure.retry_after, rng)


def spread(seconds: float, rng: random.Random) -> float:
    """A wait that others wait as well: up to 10 % (at least 0.2 s) longer, and never shorter.

    Calls that were turned away together would otherwise come back together.
    """
    return seconds + rng.uniform(0.0, max(BASE, SPREAD * seconds))
