"""Budgets: what calls in flight have reserved, and when one more is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.providers.catalog.model import Budget
from superstep.providers.policy.ledger import Ledger, refuse

if TYPE_CHECKING:
    import random


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
