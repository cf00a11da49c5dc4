"""What is remembered of pauses after statements."""

from __future__ import annotations

import pytest

from superstep.checkpointer.database.pauses import Pauses


def test_nothing_is_known_at_first() -> None:
    assert not Pauses().is_short("SELECT 1")


@pytest.mark.parametrize(
    ("seconds", "short"),
    [([0.001], True), ([5.0], False), ([0.001] * 20 + [5.0], False), ([5.0] + [0.001] * 20, True)],
)
def test_the_latest_pauses_count_most(seconds: list[float], short: bool) -> None:
    pauses = Pauses()
    for each in seconds:
        pauses.note("SELECT 1", each)
    assert pauses.is_short("SELECT 1") is short


@pytest.mark.parametrize(
    ("seconds", "busy", "short"),
    [(0.05, 0.045, True), (0.05, 0.03, False), (0.05, 0.2, True), (0.07, 0.07, True), (0.1, 0.1, False)],
)
def test_what_is_computed_meanwhile_does_not_count_unless_it_takes_long(
    seconds: float, busy: float, short: bool
) -> None:
    pauses = Pauses()
    pauses.note("SELECT 1", seconds, busy)
    assert pauses.is_short("SELECT 1") is short


def test_statements_that_were_not_sent_for_long_are_forgotten() -> None:
    pauses = Pauses()
    for at in range(2000):
        pauses.note(f"SELECT {at}", 0.001)
        pauses.note("SELECT often", 0.001)
    assert pauses.is_short("SELECT often")
    assert pauses.is_short("SELECT 1999")
    assert not pauses.is_short("SELECT 0")
    assert len(pauses._seconds) == 1024
