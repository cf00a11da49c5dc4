"""No wait for a lock with a connection in hand, none for a commit with a lock in hand: `tests.support.lock_order`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.step.snapshot import Snapshot
from superstep.checkpointer.threads.namespace import Namespace
from tests.support.bank import BALANCE, make_bank
from tests.support.graphs import chain, config_of, steps_of


async def test_waits_in_the_wrong_order_are_found(saver: TransactionalSaver) -> None:
    snapshot = Snapshot(saver.database)
    async with saver.database.connections.borrow():
        with pytest.raises(AssertionError, match="lock with a borrowed connection"):
            await snapshot.release()
        with pytest.raises(AssertionError, match="commit with a connection"):
            await Namespace().committed("1")
        with pytest.raises(AssertionError, match="another one in hand"):
            await saver.database.autocommit(lambda conn: conn.execute("SELECT 1"))
    async with snapshot.lock:
        with pytest.raises(AssertionError, match="commit with a snapshot's lock"):
            await Namespace().committed("1")


@pytest.mark.parametrize(("size", "flows"), [(1, 1), (1, 6), (3, 12)])
@pytest.mark.parametrize("hold", [0, 0.01, "forever"])
async def test_parallel_reads_and_conflicts_in_a_small_pool_end(
    database_url: str, size: int, flows: int, hold: Any
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, pool_max=size, hold_idle=hold) as saver:
        await make_bank(saver)
        async with saver.transaction() as tx:
            await tx.execute("INSERT INTO account SELECT i, 100 FROM generate_series(6, 12) i")
        ran: dict[str, int] = {}

        async def node(state: Any) -> Any:
            step = current_step()
            count = ran[step.thread_id] = ran.get(step.thread_id, 0) + 1
            own = int(step.thread_id)
            await step.fetchval(BALANCE, own)
            if count <= 2:  # its facts move
                async with saver.transaction() as tx:
                    await tx.execute("UPDATE account SET balance = balance + 1 WHERE id = $1", own)
            await asyncio.gather(*(step.fetchval(BALANCE, own) for _ in range(5)))
            return {"n": count}

        flow = transactional(chain(saver, node))
        runs = (flow.ainvoke({"n": 0}, config_of(str(n))) for n in range(1, flows + 1))
        async with asyncio.timeout(30):
            results = await asyncio.gather(*runs)
        # A step whose connection nobody wanted commits in the transaction of its reads, and so may be serialized before
        # an update that it did not see. Any other has seen that its facts moved.
        for n, result in enumerate(results, 1):
            (step,) = await steps_of(saver, config_of(str(n)))
            assert result["n"] >= 2 or (step.commit == "direct" and hold != 0)
        assert saver.database.connections.lent == 0
