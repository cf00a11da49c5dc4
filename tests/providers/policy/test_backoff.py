"""Pauses between attempts."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from superstep.providers.policy.backoff import LONGEST, pause
from superstep.providers.policy.failures import Action, Failure


def failure(retry_after: float | None) -> Failure:
    return Failure(Action.RETRY, "status 429", 429, retry_after, counts=True)


@given(st.integers(1, 10_000), st.integers())
def test_pauses_grow_to_a_cap(attempt: int, seed: int) -> None:
    found = pause(attempt, failure(None), random.Random(seed))
    assert found is not None
    assert 0.0 <= found <= min(4.0, 0.2 * 2 ** min(attempt - 1, 10))


def test_pauses_use_their_whole_range() -> None:
    found = [pause(3, failure(None), random.Random(seed)) or 0.0 for seed in range(1000)]
    assert min(found) < 0.02
    assert max(found) > 0.78


@given(st.floats(0.0, LONGEST), st.integers(1, 5), st.integers())
def test_a_pause_is_never_shorter_than_the_server_asked(asked: float, attempt: int, seed: int) -> None:
    found = pause(attempt, failure(asked), random.Random(seed))
    assert found is not None
    assert asked <= found <= asked + max(0.2, 0.1 * asked)


def test_those_turned_away_together_come_back_apart() -> None:
    assert len({pause(1, failure(5.0), random.Random(seed)) for seed in range(100)}) == 100


@given(st.floats(LONGEST, 86_400.0, exclude_min=True))
def test_a_server_that_wants_long_is_left(asked: float) -> None:
    assert pause(1, failure(asked), random.Random(0)) is None
