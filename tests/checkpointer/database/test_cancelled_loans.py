"""Work on a borrowed connection is cancelled: whoever has the connection next is in no transaction of that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer.database.errors import is_closed

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver

BEGIN = "BEGIN; SELECT pg_advisory_xact_lock(11)"


async def backends(saver: TransactionalSaver) -> list[Any]:
    async with saver.transaction() as tx:
        return await tx.fetch("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 11 AND NOT granted")


async def test_a_loan_that_is_cancelled_before_begin_is_answered(saver: TransactionalSaver) -> None:
    database = saver.database

    async def work(conn: Any) -> None:
        await conn.execute(BEGIN)

    async with saver.transaction() as holder:
        await holder.execute("SELECT pg_advisory_lock(11)")
        loan = asyncio.create_task(database.autocommit(work))
        async with asyncio.timeout(20):
            while not await backends(saver):
                pass
        loan.cancel()
        await asyncio.gather(loan, return_exceptions=True)
        await holder.execute("SELECT pg_advisory_unlock(11)")
    await none_in_a_transaction(saver)


@pytest.mark.parametrize("raises", [False, True])
async def test_a_loan_that_ends_in_a_transaction(saver: TransactionalSaver, *, raises: bool) -> None:
    async def work(conn: Any) -> None:
        await conn.execute("BEGIN; SELECT 1")
        if raises:
            raise ValueError

    try:
        await saver.database.autocommit(work)
    except ValueError:
        assert raises
    await none_in_a_transaction(saver)


async def none_in_a_transaction(saver: TransactionalSaver) -> None:
    connections = saver.database.connections
    lent = [await connections.acquire() for _ in range(connections.pool.get_max_size())]
    try:
        for conn in lent:
            await conn.execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; ROLLBACK")
            assert not is_closed(conn)
    finally:
        for conn in lent:
            await connections.give_back(conn)
