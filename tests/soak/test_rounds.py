"""Rounds of `make soak`, as many as there is time for: each is right, and was as violent as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.database import own_database
from tests.soak.plan import Kind, draw
from tests.soak.round import Round

if TYPE_CHECKING:
    from pathlib import Path

    from superstep.checkpointer.embedded import EmbeddedServer
    from tests.crash.world import Nursery
    from tests.soak.conftest import Rounds
    from tests.soak.plan import Plan
    from tests.soak.round import Tally

HISTORIES = range(4)
CRASHES = range(7)
SERVERS = range(2)


def assert_right(plan: Plan, tally: Tally) -> None:
    print(plan.name, tally)
    assert not tally.problems, "\n".join((*tally.problems, plan.again))
    assert tally.crashes.total() >= plan.crashes


@pytest.mark.parametrize("seed", HISTORIES)
async def test_histories_of_several_processes_are_serializable(run_round: Rounds, seed: int) -> None:
    plan = draw(Kind.HISTORY, seed)
    tally = await run_round(plan)
    assert_right(plan, tally)
    assert tally.steps == plan.workers * plan.shape.flows * plan.shape.rounds * (1 + plan.shape.nested)


@pytest.mark.parametrize("seed", CRASHES)
async def test_nothing_is_lost_doubled_or_paid_twice_when_workers_and_connections_die(
    run_round: Rounds, seed: int
) -> None:
    plan = draw(Kind.CRASH, seed)
    assert_right(plan, await run_round(plan))


@pytest.mark.parametrize("seed", SERVERS)
async def test_nothing_is_lost_doubled_or_paid_twice_when_the_server_dies_under_load(
    mortal: tuple[EmbeddedServer, Path], forks: Nursery, tmp_path: Path, seed: int
) -> None:
    plan, (server, root) = draw(Kind.SERVER, seed), mortal
    with own_database(server) as url:
        tally = await Round(plan, url, tmp_path, forks, root).run()
    assert_right(plan, tally)
    assert tally.crashes["SIGKILL of the server"] == plan.server_kills
