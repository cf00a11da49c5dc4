"""Small rounds of `python -m tests.soak.fleet`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.soak.fleet.__main__ import SMALL, own_nursery
from tests.soak.fleet.round import FleetRound
from tests.support.databases import fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.crash.world import Nursery
    from tests.soak.fleet.plan import FleetPlan
    from tests.support.databases import Admin

_ROUNDS = 6  # at most, until a planted defect is found


@pytest.fixture(scope="module")
def fleet_nursery() -> Iterator[Nursery]:
    nursery = own_nursery()
    yield nursery
    nursery.close()


@pytest.mark.parametrize("plan", SMALL, ids=lambda plan: plan.name)
async def test_nothing_is_lost_doubled_or_paid_twice_when_workers_are_killed(
    plan: FleetPlan, database_url: str, fleet_nursery: Nursery, tmp_path: Path
) -> None:
    tally = await FleetRound(plan, database_url, tmp_path, fleet_nursery).run()
    print(plan.name, tally)
    assert not tally.problems, "\n".join(tally.problems)
    assert tally.kills.total() >= plan.kills


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ("an effect has the identity of the try", "was handled 2 times"),
        ("an effect is settled before it is delivered", "was not handled"),
        ("nobody stands in line", "before one that stands before it"),
        ("answers are not kept", "stored answers"),
    ],
)
async def test_a_planted_defect_is_found(
    planted: str,
    told: str,
    admin: Admin,
    server_url: str,
    template: str,
    fleet_nursery: Nursery,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for seed in range(_ROUNDS):
        plan = replace(SMALL[0], runs=8, kills=4, asleep=0.0, seed=seed)
        with fresh_database(admin, server_url, template) as url:
            tally = await FleetRound(plan, url, tmp_path_factory.mktemp("round"), fleet_nursery, planted).run()
        if any(told in problem for problem in tally.problems):
            return
    pytest.fail(f"{_ROUNDS} rounds did not find it")
