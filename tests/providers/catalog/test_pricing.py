"""What calls cost. The published prices are the oracle's; what is tested is which of them are used, and when."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from superstep.providers.catalog.model import Deployment, Price
from superstep.providers.catalog.pricing import cost, price_of

FLAT, TIERED = ("openai", "gpt-5.4-mini"), ("anthropic", "claude-sonnet-4-5")


def deployment(provider: Any, model: str, **given: Any) -> Deployment:
    return Deployment(name="r/d", provider=provider, model=model, **given)


def published(model: tuple[str, str], **usage: int) -> float:
    return float(calc_price(Usage(**usage), model[1], provider_id=model[0]).total_price)


@pytest.mark.parametrize("model", [FLAT, TIERED])
def test_a_published_price(model: tuple[str, str]) -> None:
    found = price_of(deployment(*model))
    assert found is not None
    assert found.input == pytest.approx(published(model, input_tokens=1000, output_tokens=0) * 1000)
    assert found.output == pytest.approx(published(model, input_tokens=0, output_tokens=1000) * 1000)


def test_the_configured_price_comes_first() -> None:
    given_ = deployment(*TIERED, price=Price(input=1, output=10))
    assert price_of(given_) == Price(input=1, output=10)
    assert cost(given_, 300_000, 1000, {"cache_read": 1000}) == pytest.approx(0.31)
    assert cost(deployment("openai-compatible", "m", price=Price(input=0, output=0)), 10, 10) == 0


def test_the_offline_model_costs_nothing() -> None:
    assert price_of(deployment("offline", "offline")) == Price(input=0, output=0)
    assert cost(deployment("offline", "offline"), 10_000, 10_000) == 0


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "no-such-model"),
        ("openai", TIERED[1]),
        ("anthropic", FLAT[1]),
        ("openai", "text-embedding-3-small"),  # has no price for output: no chat model
        ("openai-compatible", FLAT[1]),
        ("langchain", FLAT[1]),
        ("langchain", ""),
    ],
)
def test_what_is_not_known_is_not_guessed(provider: str, model: str) -> None:
    assert price_of(deployment(provider, model)) is None
    assert cost(deployment(provider, model), 10, 10) is None
    assert cost(deployment(provider, model), 10, 10, {"cache_read": 5}) is None


tokens = st.integers(min_value=0, max_value=1_000_000)


@given(st.sampled_from([FLAT, TIERED]), tokens, tokens)
def test_a_call_costs_what_the_table_says(model: tuple[str, str], into: int, out: int) -> None:
    expected = published(model, input_tokens=into, output_tokens=out)
    assert cost(deployment(*model), into, out) == pytest.approx(expected, rel=1e-12)


def test_long_inputs_have_a_tier_of_their_own() -> None:
    one, three = cost(deployment(*TIERED), 100_000, 0), cost(deployment(*TIERED), 300_000, 0)
    assert one is not None
    assert three is not None
    assert three > 3 * one


@given(tokens, tokens, tokens, tokens)
def test_cached_tokens_have_prices_of_their_own(fresh: int, read: int, short: int, long: int) -> None:
    details = {
        "cache_read": read,
        "cache_creation": 0,
        "ephemeral_5m_input_tokens": short,
        "ephemeral_1h_input_tokens": long,
    }
    into = fresh + read + short + long
    expected = published(
        TIERED,
        input_tokens=into,
        output_tokens=7,
        cache_read_tokens=read,
        cache_write_tokens=short + long,
        cache_write_1h_tokens=long,
    )
    assert cost(deployment(*TIERED), into, 7, details) == pytest.approx(expected, rel=1e-12)


def test_what_openai_read_from_its_cache_is_cheaper() -> None:
    whole, cached = cost(deployment(*FLAT), 1000, 0), cost(deployment(*FLAT), 1000, 0, {"cache_read": 900})
    assert cached == pytest.approx(published(FLAT, input_tokens=1000, output_tokens=0, cache_read_tokens=900))
    assert whole is not None
    assert cached is not None
    assert cached < whole


@pytest.mark.parametrize("details", [{"cache_read": None}, {"audio": 3}, {"cache_read": 5000}, {"cache_read": -1}])
def test_counts_that_do_not_add_up_still_have_a_price(details: dict[str, int | None]) -> None:
    assert cost(deployment(*FLAT), 1000, 10, details) == cost(deployment(*FLAT), 1000, 10)


def test_nothing_is_fetched_and_nothing_slow_is_imported_before_it_is_needed() -> None:
    code = """
import socket, sys
def refuse(*_): raise SystemExit("it tried to connect")
socket.socket.connect = socket.getaddrinfo = refuse
from superstep.providers.catalog.pricing import cost, price_of
from superstep.providers.catalog.model import Deployment
assert cost(Deployment(name="d", provider="offline", model="offline"), 1, 1) == 0
assert "genai_prices" not in sys.modules
assert price_of(Deployment(name="d", provider="openai", model="gpt-5.4-mini"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
