"""What is told of a window of time: of which threads, from when on, and at what cost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from superstep import ConfigError, transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.coherence import report
from tests.support.bank import BALANCE, Bank
from tests.support.databases import fresh_database, run
from tests.support.graphs import chain, config_of
from tests.support.many_threads import fill
from tests.support.plans import plan_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import Admin


async def first(state: Any) -> Any:
    await current_step().fetchval(BALANCE, 1)
    return {"n": 1}


async def second(state: Any) -> Any:
    await current_step().fetchval(BALANCE, 1)
    return {"n": 2}


async def test_a_run_begins_with_its_input(saver: TransactionalSaver) -> None:
    """What the thread saw in the run before is not compared with what it sees in this one."""
    flow = transactional(chain(saver, first, second))
    for _ in range(2):
        await flow.ainvoke({}, config_of("t"))
    found = await saver.ametrics()
    assert [(d.before, d.after, d.pairs) for d in found.coherence.divergences] == [("first", "second", 2)]
    assert [(s.steps, s.reads) for s in found.steps] == [(4, 4)]


async def test_a_copy_of_a_thread_counts_for_what_it_does_itself(saver: TransactionalSaver) -> None:
    flow = transactional(chain(saver, first, second))
    await flow.ainvoke({}, config_of("t"))
    await saver.acopy_thread("t", "copy")
    assert [s.steps for s in (await saver.ametrics()).steps] == [2]
    await flow.ainvoke({}, config_of("copy"))
    found = await saver.ametrics()
    assert [s.steps for s in found.steps] == [4]
    assert {flow.thread_id: flow.steps for flow in found.coherence.flows} == {"t": 2, "copy": 2}


async def test_only_threads_of_a_graph_and_a_time(saver: TransactionalSaver, bank: Bank) -> None:
    for name in ("one", "two"):
        await transactional(chain(saver, first), name=name).ainvoke({}, config_of(name))
    assert [s.graph for s in (await saver.ametrics(graph="one")).steps] == ["one"]
    assert [(f.graph, f.status, f.flows) for f in (await saver.ametrics(graph="two")).flows] == [
        ("two", "completed", 1)
    ]
    await bank.do("UPDATE runtime.thread SET created_at = created_at - interval '2 days' WHERE thread_id = 'one'")
    await bank.do("UPDATE runtime.checkpoint SET created_at = created_at - interval '2 days' WHERE thread_id = 'one'")
    assert [s.graph for s in (await saver.ametrics()).steps] == ["two"]
    assert len((await saver.ametrics(since=timedelta(days=3))).steps) == 2
    assert len((await saver.ametrics(since=timedelta.max)).steps) == 2
    assert len((await saver.ametrics(since=datetime(2020, 1, 1, tzinfo=UTC))).steps) == 2
    assert (await saver.ametrics(since=datetime.now(UTC) + timedelta(days=1))).steps == []
    for wrong in (timedelta(-1), datetime.now(UTC).replace(tzinfo=None)):
        with pytest.raises(ConfigError):
            await saver.ametrics(since=wrong)


async def test_pages_and_the_latest_super_steps(saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = transactional(chain(saver, first, second))
    for n in range(5):
        await flow.ainvoke({}, config_of(f"t{n}"))
    whole = await saver.ametrics()
    monkeypatch.setattr(report, "_PAGE", 3)
    assert (await saver.ametrics()).coherence == whole.coherence
    assert whole.coherence_since == whole.since
    latest = await saver.ametrics(most_steps=4)
    assert latest.coherence_since > latest.since
    assert latest.coherence.totals.steps <= 5
    assert {flow.thread_id for flow in latest.coherence.flows} >= {"t3", "t4"}
    assert latest.steps == whole.steps
    assert len((await saver.ametrics(most_rows=2)).coherence.flows) == 2


async def test_nothing_ran(saver: TransactionalSaver) -> None:
    found = await saver.ametrics()
    assert (found.steps, found.calls, found.flows, found.reconciliation_delta) == ([], [], [], 0.0)
    assert found.coherence.totals.conflict_rate == 0.0


THREADS = 1_500  # 30,000 checkpoints, one thread a minute


@pytest.fixture(scope="module")
def filled_url(admin: Admin, server_url: str, template: str) -> Iterator[str]:
    async def prepare() -> None:
        async with TransactionalSaver.from_conn_string(url) as saver:
            await fill(saver, THREADS)
            async with saver.database.connections.borrow() as conn:
                await conn.execute(
                    "UPDATE runtime.checkpoint c SET created_at = t.updated_at, stats = stats || '{\"facts\": []}' "
                    "FROM runtime.thread t WHERE t.thread_id = c.thread_id;"
                    "UPDATE runtime.model_call c SET created_at = t.updated_at "
                    "FROM runtime.thread t WHERE t.thread_id = c.thread_id"
                )
                await conn.execute("VACUUM ANALYZE")

    with fresh_database(admin, server_url, template) as url:
        run(prepare())
        yield url


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_window_costs_what_is_in_it(filled_url: str, mode: str) -> None:
    """The last ten minutes of a day of flows: no statement looks at the rest, but for the list of threads."""
    sent: list[tuple[str, Any]] = []
    async with TransactionalSaver.from_conn_string(filled_url, pool_max=1) as saver:
        async with saver.database.connections.borrow() as conn:
            conn.add_query_logger(lambda record: sent.append((record.query, record.args or ())))
        await saver.ametrics(since=timedelta(minutes=10), graph="graph 1")
        await asyncio.sleep(0)
        found = await saver.ametrics(since=timedelta(minutes=10))
        await asyncio.sleep(0)
        assert 0 < sum(s.steps for s in found.steps) < 400
        async with saver.database.connections.borrow() as conn:
            plans = {
                sql: await plan_of(conn, sql, args, mode)  # type: ignore[arg-type]
                for sql, args in list(sent)
                if sql.startswith("SELECT") and "runtime" in sql
            }
    assert len(plans) >= 7
    for sql, plan in plans.items():
        assert set(plan.whole) <= {"thread"}, (plan, sql)
        assert max(plan.rows, plan.pages) <= THREADS + 1_000, (plan, sql)
