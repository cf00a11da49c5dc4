"""Small rounds of `python -m tests.soak.fleet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.fleet.__main__ import SMALL, own_nursery
from tests.soak.fleet.round import FleetRound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.crash.world import Nursery
    from tests.soak.fleet.plan import FleetPlan


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
