"""Listing and opening cost as much as they show, whatever else there is: no statement reads whole tables."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import pytest

from superstep.checkpointer import Retention, Rule, TransactionalSaver
from superstep.checkpointer.database.pool import register_codecs
from tests.support.databases import fresh_database, run
from tests.support.graphs import config_of
from tests.support.many_threads import fill
from tests.support.plans import Plan, plan_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.support.databases import Admin

THREADS, OF_ONE = 1_000, 10_000  # 30,000 checkpoints
PAGE = 50


@pytest.fixture(scope="module")
def filled_url(admin: Admin, server_url: str, template: str) -> Iterator[str]:
    async def prepare() -> None:
        async with TransactionalSaver.from_conn_string(url) as saver:
            await fill(saver, THREADS, OF_ONE)
            async with saver.database.connections.borrow() as conn:
                await conn.execute("VACUUM ANALYZE")

    with fresh_database(admin, server_url, template) as url:
        run(prepare())
        yield url


class Logged(NamedTuple):
    """A saver, and what it has sent."""

    saver: TransactionalSaver
    sent: list[tuple[str, Any]]

    async def plans(self, call: Callable[[TransactionalSaver], Awaitable[Any]], mode: str) -> list[Plan]:
        """How the statements of a call are executed."""
        await asyncio.sleep(0)  # asyncpg calls loggers on the loop's next turn
        self.sent.clear()
        await call(self.saver)
        await asyncio.sleep(0)
        async with self.saver.database.connections.borrow() as conn:
            return [
                await plan_of(conn, sql, args, mode)  # type: ignore[arg-type]
                for sql, args in list(self.sent)
                if sql.startswith(("SELECT", "WITH")) and "typeinfo_tree" not in sql  # a question of the driver's
            ]


@pytest.fixture
async def logged(filled_url: str) -> AsyncIterator[Logged]:
    sent: list[tuple[str, Any]] = []

    async def init(conn: Any) -> None:
        await register_codecs(conn)
        conn.add_query_logger(lambda record: sent.append((record.query, record.args or ())))

    async with asyncpg.create_pool(filled_url, min_size=1, max_size=1, init=init) as pool:
        saver = TransactionalSaver(pool, own_pool=True)
        yield Logged(saver, sent)
        await saver.aclose()


async def _listed(saver: TransactionalSaver, config: Any, **options: Any) -> list[Any]:
    return [each async for each in saver.alist(config, limit=PAGE, **options)]


async def _list_deep(saver: TransactionalSaver, config: Any) -> None:
    found = await _listed(saver, config, before=config_of("", checkpoint_id=MIDDLE))
    assert len(found) == PAGE


MIDDLE = f"{(THREADS + 250) * 20:08x}"  # a beginning of an id of the long thread, after as many as before it
OF_NS = config_of("long", checkpoint_ns="")
CALLS: dict[str, Callable[[TransactionalSaver], Awaitable[Any]]] = {
    "threads": lambda saver: saver.athreads(PAGE),
    "one thread": lambda saver: saver.athread("long"),
    "threads that begin so": lambda saver: saver.athread_ids("thread-00005", 4),
    "the latest steps": lambda saver: saver.asteps("long", PAGE),
    "steps that begin so": lambda saver: saver.astep_ids("long", MIDDLE, 4),
    "the latest run": lambda saver: saver.alatest_run("long"),
    "checkpoints of a namespace": lambda saver: _listed(saver, OF_NS),
    "checkpoints of a namespace, deep": lambda saver: _list_deep(saver, OF_NS),
    "checkpoints of a thread": lambda saver: _listed(saver, config_of("long")),
    "checkpoints of a thread, deep": lambda saver: _list_deep(saver, config_of("long")),
    "checkpoints of a thread, by metadata": lambda saver: _listed(saver, config_of("long"), filter={"step": 3}),
    "checkpoints of all": lambda saver: _listed(saver, None),
    "checkpoints of all, deep": lambda saver: _list_deep(saver, None),
    "the latest state": lambda saver: saver.aget_tuple(OF_NS),
    "the trace of a thread": lambda saver: saver.atraceparent("long"),
    "checkpoints of runs": lambda saver: saver.adelete_for_runs(["nobody's"]),
}
MOST = 3_000  # rows of the 200,000 that there are, and pages of 8 kB
BOTH = ("force_custom_plan", "force_generic_plan")


@pytest.mark.parametrize("mode", BOTH)
@pytest.mark.parametrize("name", CALLS)
async def test_what_is_shown_is_found_by_an_index(name: str, mode: str, logged: Logged) -> None:
    plans = await logged.plans(CALLS[name], mode)
    assert plans
    for plan in plans:
        assert not plan.whole, plan
        assert max(plan.rows, plan.pages) <= MOST, plan


@pytest.mark.parametrize("mode", BOTH)
async def test_a_later_page_of_threads_costs_what_the_first_does(mode: str, logged: Logged) -> None:
    seen: list[str] = []
    last = None
    for _ in range(3):
        page = await logged.saver.athreads(300, after=last)
        last = page[-1]
        seen += [each.thread_id for each in page]
    assert len(seen) == len(set(seen)) == 900
    assert seen == [each.thread_id for each in await logged.saver.athreads(900)]
    (plan,) = await logged.plans(lambda saver: saver.athreads(PAGE, after=last), mode)
    assert not plan.whole
    assert max(plan.rows, plan.pages) <= MOST


@pytest.mark.parametrize("mode", BOTH)
async def test_looking_for_what_is_old_reads_nothing_but_threads(mode: str, logged: Logged) -> None:
    nothing = Retention(Rule(timedelta(days=400), keep_latest=True))
    for plan in await logged.plans(lambda saver: saver.asweep(nothing), mode):
        assert set(plan.whole) <= {"thread"}
        assert plan.rows <= 2 * THREADS


@pytest.mark.parametrize(
    ("index", "name"),
    [
        ("thread_changed", "threads"),
        ("checkpoint_of_step", "one thread"),
        ("checkpoint_by_id", "checkpoints of all"),
        ("checkpoint_of_run", "checkpoints of runs"),
        ("model_call_of_run", "the latest run"),
        ("checkpoint_pkey", "the latest state"),
    ],
)
async def test_without_the_index_it_would_be_seen(index: str, name: str, logged: Logged) -> None:
    """Whoever drops an index learns it from the test above."""
    async with logged.saver.database.connections.borrow() as conn:
        await conn.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'runtime.{index}'::regclass")
    try:
        plans = await logged.plans(CALLS[name], "force_generic_plan")
        assert any(plan.whole or max(plan.rows, plan.pages) > MOST for plan in plans)
    finally:
        async with logged.saver.database.connections.borrow() as conn:
            await conn.execute(f"UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'runtime.{index}'::regclass")
