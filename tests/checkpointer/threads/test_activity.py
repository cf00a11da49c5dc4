"""What is asked for a live view costs as much as has happened lately, whatever else there is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.threads.queries import activity
from tests.support.databases import fresh_database, run
from tests.support.many_threads import fill
from tests.support.plans import plan_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import Admin

THREADS = 1_000  # 20,000 checkpoints and calls
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
STATEMENTS = {"running": (HOUR, 20), "steps": (MINUTE,), "spend": (MINUTE, HOUR)}


@pytest.fixture(scope="module")
def filled_url(admin: Admin, server_url: str, template: str) -> Iterator[str]:
    """All but a few rows are of yesterday."""

    async def prepare() -> None:
        async with TransactionalSaver.from_conn_string(url) as saver:
            await fill(saver, THREADS)
            async with saver.database.connections.borrow() as conn:
                for table in ("checkpoint", "model_call"):
                    await conn.execute(
                        f"UPDATE runtime.{table} SET created_at = created_at - interval '1 day' "
                        f"WHERE thread_id > 'thread-0000003'"
                    )
                await conn.execute("VACUUM ANALYZE")

    with fresh_database(admin, server_url, template) as url:
        run(prepare())
        yield url


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", STATEMENTS)
async def test_what_goes_on_is_found_by_an_index(name: str, mode: str, filled_url: str) -> None:
    statement, args = activity._sql("runtime")[name], STATEMENTS[name]
    async with TransactionalSaver.from_conn_string(filled_url) as saver, saver.database.connections.borrow() as conn:
        plan = await plan_of(conn, statement, args, mode)  # type: ignore[arg-type]
    assert not plan.whole, plan
    assert max(plan.rows, plan.pages) <= 500, plan
