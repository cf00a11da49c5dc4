"""Pauses, hedging credit, budgets and estimates."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.providers.catalog.model import Budget
from superstep.providers.policy.backoff import LONGEST, pause
from superstep.providers.policy.estimate import tokens, tokens_of
from superstep.providers.policy.failures import Action, Failure
from superstep.providers.policy.hedging import HedgeBank
from superstep.providers.policy.ledger import Ledger, refuse


def failure(retry_after: float | None) -> Failure:
    return Failure(Action.RETRY, "status 429", 429, retry_after, counts=True)


# -- pauses


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


# -- hedging

payments = st.lists(st.tuples(st.booleans(), st.floats(0.0, 100.0)), max_size=200)


@given(payments, st.floats(0.0, 1.0))
def test_no_more_is_spent_than_earned(payments: list[tuple[bool, float]], share: float) -> None:
    bank, earned, spent = HedgeBank(share), 0.0, 0.0
    for first, cost in payments:
        if first:
            bank.earn(cost)
            earned += cost
        elif bank.spend(cost):
            spent += cost
        else:
            assert spent + cost > share * earned, "refused although there was credit"
        assert spent <= share * earned
        assert (bank.earned, bank.spent) == (earned, spent)


def test_a_bank_starts_without_credit() -> None:
    bank = HedgeBank(0.5)
    assert not bank.spend(1.0)
    bank.earn(2.0)
    assert bank.spend(1.0)
    assert not bank.spend(0.1)


# -- budgets


def refused(budget: Budget, *, spent: float = 0, reserved: float = 0, following: float | None = 0) -> str | None:
    amount = 0 if following is None else int(following)
    return refuse(
        budget,
        spent_usd=spent,
        spent_tokens=int(spent),
        reserved_usd=reserved,
        reserved_tokens=int(reserved),
        next_usd=following,
        next_tokens=amount,
    )


amounts = st.integers(0, 100)


@given(amounts, amounts, amounts, st.integers(1, 200))
def test_everything_together_stays_within_the_budget(spent: int, reserved: int, following: int, limit: int) -> None:
    fits = spent + reserved + following <= limit
    assert (refused(Budget(usd=limit), spent=spent, reserved=reserved, following=following) is None) is fits
    assert (refused(Budget(tokens=limit), spent=spent, reserved=reserved, following=following) is None) is fits
    assert refused(Budget(), spent=spent, reserved=reserved, following=following) is None


def test_the_reason_names_the_amounts() -> None:
    assert refused(Budget(usd=0.5), spent=0.42, reserved=0.05, following=0.04) == (
        "of 0.5 USD, 0.42 USD are spent and 0.05 USD reserved by calls in flight; this call may cost 0.04 USD"
    )
    assert refused(Budget(tokens=10), spent=6, reserved=3, following=2) == (
        "of 10 tokens, 6 are spent and 3 reserved by calls in flight; this call may take 2"
    )


def test_a_call_without_a_price_is_refused_under_a_budget_in_money_only() -> None:
    assert refused(Budget(usd=5.0), following=None) is not None
    assert refused(Budget(tokens=5), following=None) is None


def test_rounding_refuses_nobody() -> None:
    assert sum([0.1] * 3) > 0.3
    assert refused(Budget(usd=0.3), spent=0.1 + 0.1, reserved=0.0, following=0.1) is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 10), st.integers(0, 1000)), max_size=50), st.randoms())
def test_reservations_are_given_back_exactly(calls: list[tuple[str, float, int]], rng: random.Random) -> None:
    ledger = Ledger()
    for scope, usd, count in calls:
        ledger.reserve(scope, usd, count)
    for scope in "ab":
        assert ledger.reserved(scope)[1] == sum(count for where, _, count in calls if where == scope)
        assert ledger.reserved(scope)[0] == pytest.approx(sum(usd for where, usd, _ in calls if where == scope))
    rng.shuffle(calls)
    for scope, usd, count in calls:
        ledger.release(scope, usd, count)
    assert ledger.reserved("a") == ledger.reserved("b") == (0.0, 0)


def test_releasing_what_was_not_reserved_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Ledger().release("run", 1.0, 1)


# -- estimates


@given(st.lists(st.text(max_size=40), max_size=10))
def test_four_characters_are_a_token(texts: list[str]) -> None:
    assert tokens("") == 0
    for text in texts:
        assert 4 * tokens(text) - 4 < len(text) <= 4 * tokens(text) or not text
    assert tokens_of(texts) == sum(tokens(text) for text in texts)
