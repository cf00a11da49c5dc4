"""Behind pgbouncer in transaction mode, where each transaction may be in another session: no setting is needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database.pool import open_pool
from superstep.runtime.faults import DatabaseUnavailable
from tests.support.bank import BALANCE, DEBIT, Bank, make_bank
from tests.support.graphs import chain, config_of
from tests.support.pgbouncer import pgbouncer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pooled_url(empty_database_url: str) -> Iterator[str]:
    with pgbouncer(empty_database_url) as url:
        yield url


async def debit(state: Any) -> Any:
    step = current_step()
    balance = await step.fetchval(BALANCE, 1)
    step.stage(DEBIT, 1, expect_rows=1)
    return {"n": balance, "seen": [balance]}


async def again(state: Any) -> Any:
    return {"n": await current_step().fetchval(BALANCE, 1)}


async def test_flows_of_several_programs_share_few_servers(pooled_url: str) -> None:
    """What one prepares, the other would run, if statements were prepared by name."""
    async with (
        TransactionalSaver.from_conn_string(pooled_url) as one,
        TransactionalSaver.from_conn_string(pooled_url) as other,
    ):
        await asyncio.gather(one.setup(), other.setup())
        await make_bank(one)
        runs = [
            transactional(chain(saver, debit, again)).ainvoke({"n": 0}, config_of(f"{name}-{i}"))
            for name, saver in (("one", one), ("other", other))
            for i in range(10)
        ]
        async with asyncio.timeout(60):
            ended = await asyncio.gather(*runs)
        assert sorted(state["seen"][0] for state in ended) == list(range(81, 101))
        assert await Bank(other).balance() == 80
        assert len(await one.athreads()) == 20


async def test_the_proxy_is_found_and_may_be_named(pooled_url: str, empty_database_url: str) -> None:
    for url, expected in (
        (pooled_url, True),
        (f"{pooled_url}?pgbouncer=false", False),
        (empty_database_url, False),
        (f"{empty_database_url}&pgbouncer=true", True),
    ):
        pool, server = await open_pool(url, min_size=0, max_size=1)
        pool.terminate()
        assert server.pooled is expected, url


async def test_nothing_of_a_session_reaches_other_clients(pooled_url: str) -> None:
    async def move(state: Any) -> Any:
        current_step().stage("SELECT set_config('search_path', 'elsewhere', false), pg_advisory_lock(4711)")
        return {"n": 1}

    async with (
        TransactionalSaver.from_conn_string(pooled_url) as one,
        TransactionalSaver.from_conn_string(pooled_url) as other,
    ):
        await one.setup()
        for i in range(4):
            await chain(one, move).ainvoke({"n": 0}, config_of(f"t-{i}"))
        for _ in range(4):
            async with other.transaction() as tx:
                assert await tx.fetchval("SHOW search_path") == '"$user", public'
                locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"
                assert await tx.fetchval(locks) == 0


@pytest.mark.parametrize("parameters", ["statement_timeout=5s", "options=-c%20statement_timeout%3D5s"])
@pytest.mark.parametrize("ignored", [True, False])
async def test_settings_that_it_does_not_hand_on_are_refused(
    empty_database_url: str, parameters: str, ignored: bool
) -> None:
    name = parameters.partition("=")[0]
    with pgbouncer(empty_database_url, ignore=name if ignored else "") as url:
        with pytest.raises(DatabaseUnavailable, match=rf"does not hand these settings.*: {name}\."):
            await open_pool(f"{url}?{parameters}", min_size=1, max_size=1)
        pool, _ = await open_pool(f"{url}?application_name=mine&connect_timeout=5", min_size=1, max_size=1)
        pool.terminate()
