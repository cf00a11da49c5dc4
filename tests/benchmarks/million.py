"""Listing, opening and cleaning up in a database of a million checkpoints."""

from __future__ import annotations

import time
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from superstep.checkpointer import Retention, Rule, TransactionalSaver
from tests.benchmarks.section import Section
from tests.benchmarks.tables import table
from tests.support.graphs import config_of
from tests.support.many_threads import fill

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.benchmarks.setting import Place

__all__ = ["run"]

_PAGE = 50
_DAY = timedelta(days=1)
_ONE = "thread-0000020"


async def run(place: Place) -> Section:
    """The section."""
    threads, of_one = place.size(45_000, 40), place.size(100_000, 400)
    async with TransactionalSaver.from_conn_string(place.url) as saver:
        await saver.setup()
        many = await fill(saver, threads, of_one)
        async with saver.database.connections.borrow() as conn:
            await conn.execute("VACUUM ANALYZE", timeout=600)
        deep = min(1_000 * _PAGE, of_one // 2)
        rows = [[what, await _ms(place, call)] for what, call in (await _calls(saver, threads, deep)).items()]
    return Section(
        f"## At a million checkpoints\n\n{many:,} checkpoints in {threads + 1:,} threads, of which one has {of_one:,}. "
        f"Pages have {_PAGE} rows. Milliseconds, through the saver; the median of {place.rounds} calls.\n\n"
        + table(["call", "ms"], rows)
    )


async def _ms(place: Place, call: Callable[[], Awaitable[Any]]) -> float:
    took = []
    for _ in range(place.rounds):
        started = time.perf_counter()
        await call()
        took.append((time.perf_counter() - started) * 1000)
    return median(took)


async def _calls(saver: TransactionalSaver, threads: int, deep: int) -> dict[str, Callable[[], Awaitable[Any]]]:
    skipped = min(deep, threads * 8 // 9)
    far = (await saver.athreads(skipped))[-1]
    one, long = config_of(_ONE, checkpoint_ns=""), config_of("long", checkpoint_ns="")
    async with saver.transaction() as tx:
        inside, of_all = [
            await tx.fetchval(
                f"SELECT checkpoint_id FROM runtime.checkpoint {where} ORDER BY 1 DESC OFFSET {deep} LIMIT 1"
            )
            for where in ("WHERE thread_id = 'long'", "")
        ]
    old, history = Retention(Rule(_DAY)), Retention(Rule(_DAY, keep_latest=True))
    return {
        "threads, first page": lambda: saver.athreads(_PAGE),
        f"threads, the page after {skipped:,}": lambda: saver.athreads(_PAGE, after=far),
        "checkpoints of the long thread, first page": lambda: _list(saver, long),
        f"checkpoints of the long thread, the page after {deep:,}": lambda: _list(saver, long, inside),
        "checkpoints of all threads, first page": lambda: _list(saver, None),
        f"checkpoints of all threads, the page after {deep:,}": lambda: _list(saver, None, of_all),
        "a thread: its summary": lambda: saver.athread(_ONE),
        "a thread: its latest state": lambda: saver.aget_tuple(one),
        "a thread: its super-steps": lambda: saver.asteps(_ONE),
        "the long thread: its summary": lambda: saver.athread("long"),
        "the long thread: its latest state": lambda: saver.aget_tuple(long),
        "the long thread: its latest 50 super-steps": lambda: saver.asteps("long", _PAGE),
        "the long thread: its latest run": lambda: saver.alatest_run("long"),
        "the beginning of an id": lambda: saver.athread_ids("thread-00000", 4),
        "`runtime db size`": saver.asizes,
        "`runtime db prune --dry-run`, whole threads": lambda: saver.asweep(old, dry_run=True),
        "`runtime db prune --dry-run --keep-latest`": lambda: saver.asweep(history, dry_run=True),
    }


async def _list(saver: TransactionalSaver, config: Any, before: str | None = None) -> None:
    below = config_of("", checkpoint_id=before) if before else None
    async for _ in saver.alist(config, before=below, limit=_PAGE):
        pass
