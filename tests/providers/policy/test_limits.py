"""Limits of requests and tokens a minute: exact over every window, and nobody waits for ever."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from superstep.providers.policy.limits import WINDOW, RateLimit, Taken


def admit(limit: RateLimit, now: float, tokens: int) -> tuple[float, Taken]:
    """Wait as told, then take."""
    now += limit.wait(now, tokens)
    assert limit.wait(now, tokens) == 0.0, "told to wait, waited, and was not let in"
    return now, limit.take(now, tokens)


def test_without_limits_nothing_waits() -> None:
    limit = RateLimit(None, None)
    for _ in range(1000):
        assert limit.wait(0.0, 10**9) == 0.0
        limit.take(0.0, 10**9)


def test_requests_wait_until_the_oldest_of_the_minute_has_passed() -> None:
    limit = RateLimit(2, None)
    limit.take(0.0, 1)
    limit.take(10.0, 1)
    assert limit.wait(10.0, 1) == 50.0
    assert limit.wait(60.0, 1) == 0.0


def test_tokens_wait_until_enough_have_passed() -> None:
    limit = RateLimit(None, 100)
    limit.take(0.0, 30)
    limit.take(10.0, 30)
    limit.take(20.0, 30)
    assert limit.wait(20.0, 10) == 0.0
    assert limit.wait(20.0, 40) == 40.0
    assert limit.wait(20.0, 70) == 50.0


def test_a_call_larger_than_the_limit_waits_for_an_empty_minute_only() -> None:
    limit = RateLimit(None, 100)
    assert limit.wait(0.0, 500) == 0.0
    limit.take(0.0, 500)
    assert limit.wait(0.0, 1) == 60.0
    limit.take(60.0, 1)
    assert limit.wait(60.0, 500) == 60.0


def test_settling_gives_tokens_back_or_takes_more() -> None:
    limit = RateLimit(None, 100)
    taken = limit.take(0.0, 90)
    limit.settle(taken, 1.0, 20)
    assert limit.wait(1.0, 80) == 0.0
    limit.settle(taken, 2.0, 95)
    assert limit.wait(2.0, 6) == 58.0
    assert limit.used(2.0) == (1, 95)
    limit.settle(taken, 61.0, 1000)  # a minute has passed: it no longer counts
    assert limit.wait(61.0, 100) == 0.0
    assert limit.used(61.0) == (0, 0)


def test_a_cooldown_holds_everything_back_and_is_not_shortened() -> None:
    limit = RateLimit(None, None)
    limit.cool_down(0.0, 8.0)
    limit.cool_down(1.0, 2.0)
    assert limit.wait(1.0, 1) == 7.0
    assert limit.wait(8.0, 1) == 0.0


calls = st.lists(
    st.tuples(st.floats(0.0, 40.0), st.integers(0, 60), st.integers(0, 80) | st.none()), min_size=1, max_size=60
)


@given(calls, st.integers(1, 5), st.floats(0.0, 1e6))
def test_no_window_ever_holds_more_requests(calls: list[tuple[float, int, int | None]], rpm: int, start: float) -> None:
    limit, now, times = RateLimit(rpm, None), start, []
    for gap, tokens, _ in calls:
        now, _ = admit(limit, now + gap, tokens)
        times.append(now)
    for first, beyond in zip(times, times[rpm:], strict=False):
        assert beyond >= first + WINDOW  # else a window from `first` on would hold rpm + 1


@given(calls, st.integers(1, 100), st.floats(0.0, 1e6))
def test_no_admission_ever_exceeds_the_tokens_of_its_window(
    calls: list[tuple[float, int, int | None]], tpm: int, start: float
) -> None:
    limit, now = RateLimit(None, tpm), start
    log: list[Taken] = []
    for gap, tokens, actual in calls:
        now, taken = admit(limit, now + gap, tokens)
        before = sum(each.tokens for each in log if each.at + WINDOW > now)
        assert before == 0 or before + tokens <= tpm
        log.append(taken)
        if actual is not None:
            limit.settle(log[len(log) // 2], now, actual)  # an earlier one, of this minute or not
        assert limit.used(now)[1] == sum(each.tokens for each in log if each.at + WINDOW > now)


@given(calls, st.integers(1, 5), st.integers(1, 100), st.floats(0.0, 1e6))
def test_no_wait_is_longer_than_needed(
    calls: list[tuple[float, int, int | None]], rpm: int, tpm: int, start: float
) -> None:
    limit, now = RateLimit(rpm, tpm), start
    log: list[Taken] = []
    for gap, tokens, _ in calls:
        now += gap
        wait = limit.wait(now, tokens)
        assert wait <= WINDOW + 1e-9
        if wait > 1.0:  # a moment earlier, it would have been too many
            earlier = now + wait - 0.5
            inside = [each.tokens for each in log if each.at + WINDOW > earlier]
            assert len(inside) >= rpm or (sum(inside) > 0 and sum(inside) + tokens > tpm)
        now, taken = admit(limit, now, tokens)
        log.append(taken)


@given(st.lists(st.floats(0.0, 1e9), min_size=2, max_size=30), st.floats(0.0, 86_400.0))
def test_who_waits_as_told_is_never_early(times: list[float], seconds: float) -> None:
    limit = RateLimit(None, None)
    for now, later in pairwise(sorted(times)):
        limit.cool_down(now, seconds)
        assert limit.wait(later + limit.wait(later, 1), 1) == 0.0
