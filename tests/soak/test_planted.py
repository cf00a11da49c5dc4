"""A round finds a defect that is planted in its workers: so it would find one that is there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.soak.plan import Kind, draw

if TYPE_CHECKING:
    from tests.soak.conftest import Rounds

ROUNDS = 6  # at most, until it is found
CRASHES = 25  # in each


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ("nobody is fenced", ("a fork", "done 2 times", "paid 2 times", "ended in two states")),
        ("writes and checkpoint commit apart", ("write applied twice", "value that nobody wrote")),
        ("answers are not kept", ("paid again", "stored answers")),
        ("reads are not validated", ("read skew", "write skew")),
    ],
)
async def test_it_is_found(run_round: Rounds, planted: str, told: tuple[str, ...]) -> None:
    for seed in range(ROUNDS):
        problems = (await run_round(replace(draw(Kind.CRASH, seed), crashes=CRASHES), planted)).problems
        if any(name in problem for problem in problems for name in told):
            return
    pytest.fail(f"{ROUNDS} rounds did not find it")
