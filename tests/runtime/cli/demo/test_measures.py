"""The numbers, counted from rows that are made up."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from superstep.runtime.cli.demo.measures import Recorded, numbers
from tests.runtime.cli.demo.oracle import replayed

if TYPE_CHECKING:
    from collections.abc import Sequence

LINE, DAY = 700, 500


def recorded(amounts: Sequence[tuple[str, int, int]]) -> Recorded:
    """Draws as the tables would note them: account, amount, and what the plan had read as drawn."""
    drawn: dict[str, int] = {}
    found = Recorded()
    for n, (account, amount, planned) in enumerate(amounts):
        before = drawn.get(account, 0)
        limits = {"account_id": account, "credit_limit": LINE, "most_today": DAY}
        found.draws.append(
            {"flow": str(n), "amount": amount, "planned_drawn": planned, "planned_today": planned, **limits}
            | {"drawn_before": before, "today_before": before}
        )
        drawn[account] = before + amount
        row = {"flow": str(n), "outcome": "approve", "amount": amount, **limits}
        found.decisions.append(row | {"drawn": drawn[account], "today": drawn[account]})
    found.accounts = [
        {"id": name, "credit_limit": LINE, "most_today": DAY, "drawn": sum_, "today": sum_}
        for name, sum_ in drawn.items()
    ]
    return found


def declined(found: Recorded, *, drawn: int, amount: int = 100) -> Recorded:
    """With a decline, and what the account had when it was booked."""
    row = {"flow": "d", "account_id": "A", "outcome": "decline", "amount": amount, "drawn": drawn, "today": drawn}
    found.decisions.append({**row, "credit_limit": LINE, "most_today": DAY})
    return found


def test_a_race_that_is_lost() -> None:
    found = numbers(recorded([("A", 300, 0), ("A", 300, 0), ("A", 300, 0)]))
    assert (found.approved, found.wrong_decisions, found.plans_executed_invalid) == (3, 2, 2)
    assert (found.double_spends, found.overdrawn) == (1, 200)
    assert (found.moved, found.divergence) == (2, 600)
    assert not found.right


def test_a_value_that_moved_is_no_wrong_decision() -> None:
    found = numbers(recorded([("A", 200, 0), ("A", 200, 0), ("B", 100, 0)]))
    assert (found.moved, found.divergence) == (1, 200)
    assert found.right


def test_a_decline_is_wrong_where_there_was_room() -> None:
    assert numbers(declined(recorded([("A", 500, 0)]), drawn=500)).right
    there_was = numbers(declined(recorded([("A", 500, 0)]), drawn=400))
    assert (there_was.wrong_decisions, there_was.right) == (1, False)
    assert (there_was.approved, there_was.decided) == (1, 2)


def test_nothing_at_all() -> None:
    assert numbers(Recorded()).right


draws = st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 400), st.integers(0, 900)), max_size=12)


@given(draws)
def test_as_a_replay_says(amounts: list[tuple[str, int, int]]) -> None:
    found = recorded(amounts)
    counted: dict[str, Any] = asdict(numbers(found))
    expected = replayed({"draws": found.draws}, credit_limit=LINE, most_today=DAY)
    assert {name: counted[name] for name in expected} == expected
