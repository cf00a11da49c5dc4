"""The order in which deployments are asked, and that no healthy one is forgotten."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.providers.catalog.model import Deployment, Strategy
from superstep.providers.policy.strategies import FADES, HALF_LIFE, Health, order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

A, B, C = (Deployment(name=name, provider="offline", model=name) for name in "abc")
ALL: tuple[Strategy, ...] = get_args(Strategy)


def ordered(
    strategy: Strategy,
    candidates: Sequence[tuple[Deployment, Health]],
    *,
    now: float = 0.0,
    seed: int = 0,
    costs: Mapping[str, float] | None = None,
) -> str:
    rng, prices = random.Random(seed), costs or {}
    found = order(strategy, candidates, now=now, rng=rng, cost=lambda each: prices.get(each.name))
    return "".join(each.name for each in found)


def measured(seconds: float, tokens: int = 1, *, at: float = 0.0) -> Health:
    health = Health()
    health.observe(at, seconds, tokens)
    return health


@pytest.mark.parametrize("strategy", ALL)
@given(st.data())
def test_every_candidate_comes_once(strategy: Strategy, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.text("abcdefgh", min_size=1), unique=True))
    pairs = []
    for name in names:
        health = Health(in_flight=data.draw(st.integers(0, 3)))
        if data.draw(st.booleans()):
            health.observe(data.draw(st.floats(0, 100)), data.draw(st.floats(0, 10)), data.draw(st.integers(0, 9)))
        if data.draw(st.booleans()):
            health.failed(data.draw(st.floats(0, 100)))
        weight = data.draw(st.floats(0.01, 100))
        pairs.append((Deployment(name=name, provider="offline", model="m", weight=weight), health))
    price = data.draw(st.sampled_from([None, 0.0, 1.0]))
    found = order(strategy, pairs, now=100.0, rng=random.Random(0), cost=lambda _: price)
    assert sorted(each.name for each in found) == sorted(names)


@given(st.permutations([A, B, C]))
def test_order_is_as_listed(listed: list[Deployment]) -> None:
    names = "".join(each.name for each in listed)
    assert ordered("order", [(each, Health()) for each in listed]) == names


def test_weights_are_shares_of_first_and_second_place() -> None:
    pairs = [(replace(A, weight=6.0), Health()), (replace(B, weight=3.0), Health()), (replace(C, weight=1.0), Health())]
    seen = Counter(ordered("weighted", pairs, seed=seed) for seed in range(20_000))
    first = Counter({name: sum(n for found, n in seen.items() if found[0] == name) for name in "abc"})
    assert [round(first[name] / 20_000, 1) for name in "abc"] == [0.6, 0.3, 0.1]
    after_a = seen["abc"] + seen["acb"]
    assert seen["abc"] / after_a == pytest.approx(0.75, abs=0.02)  # 3 : 1 among those left


def test_least_busy_counts_calls_for_their_weight_and_breaks_ties_at_random() -> None:
    assert ordered("least-busy", [(A, Health(in_flight=2)), (B, Health(in_flight=1)), (C, Health())]) == "cba"
    assert ordered("least-busy", [(replace(A, weight=4.0), Health(in_flight=3)), (B, Health(in_flight=1))]) == "ab"
    firsts = Counter(ordered("least-busy", [(A, Health()), (B, Health())], seed=seed)[0] for seed in range(400))
    assert min(firsts["a"], firsts["b"]) > 150


def test_lowest_cost_puts_unknown_prices_last_and_keeps_ties_as_listed() -> None:
    pairs = [(each, Health()) for each in (A, B, C)]
    assert ordered("lowest-cost", pairs, costs={"b": 2.0, "c": 1.0}) == "cba"
    assert ordered("lowest-cost", pairs, costs={"a": 1.0, "b": 1.0, "c": 0.0}) == "cab"
    assert ordered("lowest-cost", pairs) == "abc"


def test_lowest_latency_is_per_output_token() -> None:
    assert ordered("lowest-latency", [(A, measured(10.0, 1000)), (B, measured(1.0, 10))]) == "ab"


def test_the_speed_of_one_that_was_never_measured_is_found_out_by_one_call_at_a_time() -> None:
    fresh = Health()
    pairs = [(A, measured(0.1)), (B, fresh)]
    assert ordered("lowest-latency", pairs) == "ba"
    fresh.in_flight = 1
    assert ordered("lowest-latency", pairs) == "ab"
    fresh.in_flight = 0
    fresh.failed(0.0)
    assert ordered("lowest-latency", pairs, now=FADES - 1) == "ab"


def test_a_new_measurement_outweighs_an_old_one() -> None:
    health = measured(8.0)
    health.observe(HALF_LIFE, 1.0, 1)
    assert health.latency(HALF_LIFE) == pytest.approx((8.0 * 0.5 + 1.0) / 1.5)


def test_a_measurement_fades_until_nothing_is_known() -> None:
    health = measured(8.0)
    assert health.latency(FADES - 0.1) == 8.0
    assert health.latency(FADES) is None
    assert health.unexplored(FADES)
    health.observe(FADES, 1.0, 1)
    assert health.latency(FADES) == 1.0  # the old one is forgotten


def test_an_answer_without_tokens_counts_as_one_token() -> None:
    assert measured(3.0, 0).latency(0.0) == 3.0


def test_calls_and_failures_are_counted() -> None:
    health = measured(1.0)
    health.failed(1.0)
    assert (health.calls, health.failures) == (2, 1)


@given(st.floats(1.1, 1000.0), st.integers(1, 20), st.integers(0, 1000))
def test_a_slow_one_is_tried_once_a_minute_and_no_more(slowness: float, rate: int, seed: int) -> None:
    """Ten minutes of `rate` calls a second on two deployments, each answered at once: A is the slower one."""
    healths, rng, asked = {"a": Health(), "b": Health()}, random.Random(seed), []
    for tick in range(600 * rate):
        now = tick / rate
        first = order("lowest-latency", [(A, healths["a"]), (B, healths["b"])], now=now, rng=rng, cost=lambda _: None)
        healths[first[0].name].observe(now, slowness if first[0] is A else 1.0, 1)
        if first[0] is A:
            asked.append(now)
    assert 10 <= len(asked) <= 11
    assert all(later - earlier < FADES + 2.0 for earlier, later in pairwise(asked))


def test_one_that_became_fast_again_is_found_out_by_its_first_answer() -> None:
    healths, rng, firsts = {"a": measured(50.0), "b": measured(1.0)}, random.Random(0), ""
    for second in range(1, 119):
        now = float(second)
        first = order("lowest-latency", [(A, healths["a"]), (B, healths["b"])], now=now, rng=rng, cost=lambda _: None)
        healths[first[0].name].observe(now, 0.1 if first[0] is A else 1.0, 1)
        firsts += first[0].name
    assert firsts == "b" * 59 + "a" * 59
