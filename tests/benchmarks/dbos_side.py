"""DBOS's side of `contention`, run by path with the Python of its own environment: `dbos_side.py URL FLOWS STEPS`.

Each of so many workflows reads and writes a row of its own so many times, each time in a transaction of a datasource,
which commits with DBOS's record of the step. Prints the seconds that all of them took. Imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import sys
import time


async def main(url: str, flows: int, steps: int) -> None:
    """Warm up, measure, print."""
    import sqlalchemy as sa
    from dbos import DBOS, AsyncSQLAlchemyDatasource

    DBOS(config={"name": "bench", "system_database_url": url, "sys_db_pool_size": 10, "log_level": "ERROR"})
    source = await AsyncSQLAlchemyDatasource.create(url, engine_kwargs={"pool_size": 10, "max_overflow": 0})
    try:
        read = sa.text("SELECT balance FROM account WHERE id = :id")
        write = sa.text("UPDATE account SET balance = :balance WHERE id = :id")

        @source.transaction()
        async def one(account: int) -> None:
            session = source.sql_session()
            balance = (await session.execute(read, {"id": account})).scalar_one()
            await session.execute(write, {"id": account, "balance": balance - 1})

        @DBOS.workflow()
        async def flow(account: int, steps: int) -> None:
            for _ in range(steps):
                await one(account)

        DBOS.launch()
        await asyncio.gather(*(flow(1 + at, 2) for at in range(flows)))
        began = time.perf_counter()
        await asyncio.gather(*(flow(1 + at, steps) for at in range(flows)))
        print(time.perf_counter() - began, flush=True)
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
