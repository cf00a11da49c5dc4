"""Which deployment is asked first, second, … for one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from superstep.providers.catalog.model import Deployment, Strategy

__all__ = ["FADES", "HALF_LIFE", "Health", "order"]

HALF_LIFE = 20.0  # seconds after which a measurement weighs half as much beside a new one
FADES = 60.0  # seconds without a measurement after which nothing is known any more


@dataclass(slots=True)
class Health:
    """What is known of a deployment: mutable, one per deployment and process.

    Attributes:
        in_flight: calls that are being answered now.
        calls: calls that ended, well or not. Cancelled ones are not counted.
        failures: those that failed in a way that speaks against the deployment.
    """

    in_flight: int = 0
    calls: int = 0
    failures: int = 0
    _seconds: float = 0.0  # decayed sums: what happened HALF_LIFE ago counts half
    _tokens: float = 0.0
    _measured_at: float | None = None
    _failed_at: float | None = None

    def observe(self, now: float, seconds: float, output_tokens: int) -> None:
        """A call was answered: how long it took, and how many tokens it gave (none counts as one)."""
        known = self._measured_at is not None and now - self._measured_at < FADES
        decay = 0.5 ** ((now - (self._measured_at or 0.0)) / HALF_LIFE) if known else 0.0
        self._seconds = self._seconds * decay + seconds
        self._tokens = self._tokens * decay + max(1, output_tokens)
        self._measured_at = now
        self.calls += 1

    def failed(self, now: float) -> None:
        """A call failed in a way that speaks against the deployment."""
        self._failed_at = now
        self.calls += 1
        self.failures += 1

    def latency(self, now: float) -> float | None:
        """Seconds per output token, an exponentially decayed mean in which every token weighs alike.

        `None` if nothing was measured for the last `FADES` seconds.
        """
        if self._measured_at is None or now - self._measured_at >= FADES:
            return None
        return self._seconds / self._tokens

    def unexplored(self, now: float) -> bool:
        """Whether its speed is unknown, and no call is finding it out or has just failed to."""
        failed_lately = self._failed_at is not None and now - self._failed_at < FADES
        return self.latency(now) is None and self.in_flight == 0 and not failed_lately


def order(
    strategy: Strategy,
    candidates: Sequence[tuple[Deployment, Health]],
    *,
    now: float,
    rng: random.Random,
    cost: Callable[[Deployment], float | None],
) -> list[Deployment]:
    """The candidates in the order in which one call should ask them: always all of them, each once.

    - `order`: as listed.
    - `weighted`: at random, each next one in proportion to its weight among those left (weighted sampling without
      replacement: P. S. Efraimidis and P. G. Spirakis, "Weighted random sampling with a reservoir", 2006).
    - `least-busy`: by calls in flight for its weight, ties at random.
    - `lowest-latency`: by decayed seconds per output token, ties at random. One whose speed is not known is asked
      first, but by one call at a time: while that call is in flight it comes last, and likewise for `FADES` seconds
      after it failed. So every deployment is tried about once in `FADES` seconds of traffic, and one that is slower
      than the others no more often than that: it gets one of `n` calls a minute.
    - `lowest-cost`: by `cost`, unknown last, ties as listed.

    Args:
        strategy: one of the above.
        candidates: deployments, as listed, with what is known of them.
        now: seconds of a monotonic clock, the one of `Health`.
        rng: for shares and ties.
        cost: US dollars of this call on a deployment, `None` if unknown.
    """
    listed = list(candidates)
    if strategy == "weighted":
        # -ln(u)/w is exponentially distributed with rate w: the smallest belongs to i with probability w_i / sum(w).
        listed = _by(listed, lambda deployment, _: rng.expovariate(deployment.weight))
    elif strategy == "least-busy":
        rng.shuffle(listed)
        listed = _by(listed, lambda deployment, health: health.in_flight / deployment.weight)
    elif strategy == "lowest-latency":
        rng.shuffle(listed)
        listed = _by(listed, lambda _, health: _rank(health, now))
    elif strategy == "lowest-cost":
        listed = _by(listed, lambda deployment, _: _known(cost(deployment)))
    return [deployment for deployment, _ in listed]


def _by(
    listed: list[tuple[Deployment, Health]], key: Callable[[Deployment, Health], float]
) -> list[tuple[Deployment, Health]]:
    return sorted(listed, key=lambda each: key(*each))  # stable: equals stay as they were


def _rank(health: Health, now: float) -> float:
    return -1.0 if health.unexplored(now) else _known(health.latency(now))


def _known(value: float | None) -> float:
    return float("inf") if value is None else value
