"""The checker finds it if a part of the commit protocol is switched off: so it would find it missing."""

from __future__ import annotations

import pytest

from tests.isolation.mutants import MUTANTS
from tests.isolation.test_histories import SHAPES, savers
from tests.isolation.workload import World

HISTORIES = 30  # at most, until it is found


@pytest.mark.parametrize("name", MUTANTS)
async def test_it_is_found(database_url: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mutant = MUTANTS[name]
    mutant.turn(monkeypatch)
    async with savers(database_url, 1, mutant.hold_idle) as opened:
        for seed in range(HISTORIES):
            try:
                if await World(opened, SHAPES[mutant.shape], seed).run():
                    return
            except mutant.told:
                return
    pytest.fail(f"{HISTORIES} histories without an anomaly")
