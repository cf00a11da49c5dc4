"""What second attempts may cost."""

from __future__ import annotations

__all__ = ["HedgeBank"]


class HedgeBank:
    """Credit for hedged requests of one route (J. Dean and L. A. Barroso, "The Tail at Scale", CACM 2013).

    Every first attempt earns a share of its cost, every second one must be paid from what was earned. Guarantee: at all
    times, everything spent is at most `max_share` times everything earned. It starts without credit, so that the first
    calls of a process, made on cold connections, are not hedged.

    Costs are in any one unit: US dollars, or 1.0 a call where prices are unknown; not negative.
    """

    def __init__(self, max_share: float) -> None:
        self._max_share = max_share
        self.earned = 0.0
        self.spent = 0.0

    def earn(self, cost: float) -> None:
        """A first attempt was made."""
        self.earned += cost

    def spend(self, cost: float) -> bool:
        """Pay for a second attempt. `False`: there is not enough credit, and nothing was paid."""
        if self.spent + cost > self._max_share * self.earned:
            return False
        self.spent += cost
        return True
