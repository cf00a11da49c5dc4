"""The state of a circuit, as recorded attempts imply it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from superstep.checkpointer import DeploymentAttempt
from superstep.providers.catalog.model import Breaker
from superstep.runtime.cli.models.circuits import circuit

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TWICE = Breaker(failures=2, cooldown=10, longest=15)
ANSWER, AGAINST, NEUTRAL = (True, False), (False, True), (False, False)


def attempts(*ended: tuple[float, tuple[bool, bool]]) -> list[DeploymentAttempt]:
    """By seconds before now, and how they ended."""
    return [DeploymentAttempt(NOW - timedelta(seconds=ago), *how) for ago, how in ended]


@pytest.mark.parametrize(
    ("ended", "state", "seconds"),
    [
        ([], "closed", None),
        ([(9, AGAINST)], "closed", None),
        ([(9, AGAINST), (8, AGAINST)], "open", 2),
        ([(9, AGAINST), (8, ANSWER), (7, AGAINST)], "closed", None),
        ([(9, NEUTRAL), (8, NEUTRAL), (7, NEUTRAL)], "closed", None),  # nothing against the deployment
        ([(9, AGAINST), (8, NEUTRAL), (7, AGAINST)], "closed", None),
        ([(20, AGAINST), (11, AGAINST)], "half-open", None),
        ([(20, AGAINST), (19, AGAINST), (5, AGAINST)], "open", 10),  # the probe failed: longer, and at most so long
        ([(20, AGAINST), (19, AGAINST), (5, ANSWER)], "closed", None),
        ([(5, AGAINST), (4, AGAINST), (3, ANSWER), (2, AGAINST)], "open", 6),  # by processes whose circuit was closed
    ],
)
def test_recorded_attempts_imply_the_state_of_a_circuit(ended: Any, state: str, seconds: float | None) -> None:
    until = None if seconds is None else NOW + timedelta(seconds=seconds)
    assert circuit(TWICE, attempts(*ended), NOW) == (state, until)
