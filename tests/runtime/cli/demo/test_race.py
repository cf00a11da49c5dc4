"""The race, without the command around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from superstep.providers import configure
from superstep.providers.catalog.from_env import catalog_from_env
from superstep.runtime.cli.demo import race
from superstep.runtime.cli.demo.measures import numbers
from superstep.runtime.cli.demo.progress import Watch
from superstep.runtime.cli.demo.scenario import AMOUNT, Scenario
from superstep.runtime.settings.settings import CommandSettings, DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.runtime.cli.demo.race import Arena

RACE = Scenario(flows=6, accounts=1, thinking=0.2, ttl=2.0)


@pytest.fixture
async def arena(database_url: str) -> AsyncIterator[Arena]:
    configure(catalog_from_env({}))
    async with race.opened(RACE, CommandSettings(database=DatabaseSettings(url=database_url))) as made:
        yield made


async def test_a_plain_checkpointer_on_postgres_is_as_wrong(arena: Arena, database_url: str) -> None:
    async with AsyncPostgresSaver.from_conn_string(database_url) as checkpointer:
        await checkpointer.setup()
        found = numbers(await race.cached(arena, Watch("", RACE), checkpointer))
    assert found.wrong_decisions > 0
    assert found.overdrawn > 0


async def test_what_is_watched_is_what_happened(arena: Arena) -> None:
    watch = Watch("", RACE)
    found = await race.superstep(arena, watch)
    assert +watch.at == {"done": RACE.flows}
    assert watch.drawn == {each["id"]: each["drawn"] for each in found.accounts} == {"A-1": RACE.most_today}
    assert (watch.caught, watch.asked, watch.seconds) == (found.invalidated, found.llm_paid, watch.now)
    assert watch.caught == 3


@pytest.mark.parametrize("flows", range(1, 40))
def test_there_is_never_room_for_all_that_race(flows: int) -> None:
    for accounts in range(1, flows + 1):
        scenario = Scenario(flows, accounts, 0.3, 2.0)
        asked = dict.fromkeys((each.account_id for each in scenario.applications()), 0)
        for each in scenario.applications():
            asked[each.account_id] += AMOUNT
        assert len(asked) == accounts
        assert AMOUNT <= scenario.most_today <= scenario.credit_limit
        crowded = [sum_ for sum_ in asked.values() if sum_ > AMOUNT]
        assert all(sum_ > scenario.credit_limit for sum_ in crowded)
