"""What second attempts may cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from superstep.providers.policy.hedging import HedgeBank

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
