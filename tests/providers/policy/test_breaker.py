"""The circuit breaker: opens after failures in a row, probes once, and believes no late result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.providers.catalog.model import Breaker
from superstep.providers.policy.breaker import CircuitBreaker

if TYPE_CHECKING:
    from superstep.providers.policy.breaker import Permit

SETTINGS = Breaker(failures=3, cooldown=5.0, longest=12.0)


def opened(at: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker(SETTINGS)
    for _ in range(SETTINGS.failures):
        breaker.failed(breaker.begin(at), at)
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = CircuitBreaker(SETTINGS)
    for _ in range(2):
        breaker.failed(breaker.begin(0.0), 0.0)
    breaker.succeeded(breaker.begin(0.0), 0.0)
    for _ in range(2):
        breaker.failed(breaker.begin(0.0), 0.0)
    assert breaker.state(0.0) == "closed"
    breaker.failed(breaker.begin(0.0), 1.0)
    assert breaker.state(1.0) == "open"
    assert breaker.reopens_at == 6.0
    assert not breaker.permits(5.999)


def test_after_the_cooldown_one_probe_is_let_through_and_its_success_closes() -> None:
    breaker = opened()
    assert breaker.permits(5.0)
    assert breaker.state(5.0) == "half-open"
    probe = breaker.begin(5.0)
    assert not breaker.permits(5.0)
    assert breaker.reopens_at is None
    assert breaker.state(5.0) == "half-open"
    breaker.succeeded(probe, 6.0)
    assert breaker.state(6.0) == "closed"
    assert breaker.reopens_at is None


def test_each_failed_probe_doubles_the_cooldown_up_to_the_longest() -> None:
    breaker, now, cooldowns = opened(), 0.0, []
    for _ in range(4):
        assert breaker.reopens_at is not None
        cooldowns.append(breaker.reopens_at - now)
        now = breaker.reopens_at
        breaker.failed(breaker.begin(now), now)
    assert cooldowns == [5.0, 10.0, 12.0, 12.0]
    assert breaker.reopens_at is not None
    breaker.succeeded(breaker.begin(breaker.reopens_at), 100.0)
    for _ in range(SETTINGS.failures):
        breaker.failed(breaker.begin(100.0), 100.0)
    assert breaker.reopens_at == 105.0  # a closed circuit starts over


def test_an_abandoned_probe_is_given_to_the_next_attempt() -> None:
    breaker = opened()
    probe = breaker.begin(5.0)
    breaker.abandoned(probe, 5.5)
    assert breaker.permits(5.5)
    breaker.succeeded(probe, 5.6)  # too late: it was given back
    assert breaker.state(5.6) == "half-open"
    breaker.succeeded(breaker.begin(5.6), 5.7)
    assert breaker.state(5.7) == "closed"


def test_an_abandoned_attempt_says_nothing_while_closed() -> None:
    breaker = CircuitBreaker(SETTINGS)
    for _ in range(2):
        breaker.failed(breaker.begin(0.0), 0.0)
    breaker.abandoned(breaker.begin(0.0), 0.0)
    breaker.failed(breaker.begin(0.0), 0.0)
    assert breaker.state(0.0) == "open"


def test_late_results_of_attempts_from_before_it_opened_are_dropped() -> None:
    breaker = CircuitBreaker(SETTINGS)
    late = [breaker.begin(0.0) for _ in range(5)]
    for _ in range(SETTINGS.failures):
        breaker.failed(breaker.begin(0.0), 0.0)
    breaker.failed(late[0], 4.0)
    assert breaker.reopens_at == 5.0  # not prolonged
    breaker.succeeded(late[1], 4.0)
    assert breaker.state(4.0) == "open"  # not closed
    probe = breaker.begin(5.0)
    breaker.failed(late[2], 5.1)
    breaker.succeeded(late[3], 5.2)
    breaker.abandoned(late[4], 5.3)
    assert breaker.state(5.3) == "half-open"  # the probe alone decides
    assert not breaker.permits(5.3)
    breaker.succeeded(probe, 5.4)
    assert breaker.state(5.4) == "closed"


def test_late_failures_do_not_count_towards_the_next_opening() -> None:
    breaker = CircuitBreaker(SETTINGS)
    late = [breaker.begin(0.0) for _ in range(SETTINGS.failures)]
    for _ in range(SETTINGS.failures):
        breaker.failed(breaker.begin(0.0), 0.0)
    breaker.succeeded(breaker.begin(5.0), 5.0)
    for permit in late:
        breaker.failed(permit, 5.1)
    assert breaker.state(5.1) == "closed"


def test_beginning_on_an_open_circuit_is_a_mistake() -> None:
    breaker = opened()
    with pytest.raises(RuntimeError, match="open circuit"):
        breaker.begin(1.0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "succeeded", "failed", "failed", "abandoned"]),
        st.floats(0.0, 8.0),
        st.integers(0, 5),
    ),
    max_size=80,
)


@given(steps, st.integers(1, 4))
def test_any_history_keeps_its_promises(steps: list[tuple[str, float, int]], failures: int) -> None:
    settings = Breaker(failures=failures, cooldown=5.0, longest=12.0)
    breaker, now = CircuitBreaker(settings), 0.0
    running: list[tuple[Permit, bool]] = []  # and whether it began while the circuit was not closed: a probe
    for action, gap, which in steps:
        now += gap
        before = breaker.state(now)
        if action == "begin":
            if not breaker.permits(now):
                continue
            running.append((breaker.begin(now), before != "closed"))
        elif running:
            permit, probe = running.pop(which % len(running))
            getattr(breaker, action)(permit, now)
            if not probe and before != "closed":
                assert breaker.state(now) == before  # only a probe ends an open or half-open state
        probes = sum(is_probe for _, is_probe in running)
        assert probes <= 1
        assert not (probes and breaker.permits(now)), "a second probe"
        if breaker.state(now) == "open":
            assert breaker.reopens_at is not None
            assert now < breaker.reopens_at <= now + settings.longest
    for permit, _ in running:
        breaker.abandoned(permit, now)
    assert breaker.permits(now + settings.longest)  # nobody is shut out for ever
