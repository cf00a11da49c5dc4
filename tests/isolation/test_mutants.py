"""The checker finds it if a part of the commit protocol is switched off: so it would find it missing."""

from __future__ import annotations

import pytest

from superstep.checkpointer.commit.order import CommitOrder
from superstep.checkpointer.turns.hot import Hot
from tests.isolation.mutants import MUTANTS
from tests.isolation.test_histories import SHAPES, savers
from tests.isolation.workload import World

HISTORIES = 30  # at most, until it is found


async def _at_once(_: CommitOrder) -> tuple[bool, None]:
    return False, None


@pytest.mark.parametrize("name", MUTANTS)
async def test_it_is_found(database_url: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mutant = MUTANTS[name]
    mutant.turn(monkeypatch)
    # What keeps flows out of each other's way would make the situations rare that the switch is about.
    monkeypatch.setattr(Hot, "is_quiet", True)
    monkeypatch.setattr(CommitOrder, "is_contended", mutant.together)
    if not mutant.together:
        monkeypatch.setattr(CommitOrder, "acquire", _at_once)
    async with savers(database_url, 1, mutant.hold_idle) as opened:
        for seed in range(HISTORIES):
            try:
                if await World(opened, SHAPES[mutant.shape], seed).run():
                    return
            except mutant.told:
                return
    pytest.fail(f"{HISTORIES} histories without an anomaly")
