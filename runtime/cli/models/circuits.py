"""What the recorded attempts say about a deployment's circuit. Each process has a circuit of its own, in its memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from superstep.providers.policy.breaker import CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from superstep.checkpointer import DeploymentAttempt
    from superstep.providers.catalog.model import Breaker
    from superstep.providers.policy.breaker import State

__all__ = ["circuit"]


def circuit(settings: Breaker, attempts: Iterable[DeploymentAttempt], now: datetime) -> tuple[State, datetime | None]:
    """Replay attempts on a fresh circuit breaker.

    Args:
        settings: When it opens.
        attempts: Oldest first.
        now: For which moment.

    Returns:
        Its state, and when it lets an attempt through again, if it is open.
    """
    breaker = CircuitBreaker(settings)
    for attempt in attempts:
        at = attempt.at.timestamp()
        if not breaker.permits(at):
            continue  # made by a process whose own circuit was not open
        permit = breaker.begin(at)
        if attempt.answered or not attempt.counts:
            breaker.succeeded(permit, at)
        else:
            breaker.failed(permit, at)
    state, until = breaker.state(now.timestamp()), breaker.reopens_at
    return state, datetime.fromtimestamp(until, UTC) if state == "open" and until is not None else None
