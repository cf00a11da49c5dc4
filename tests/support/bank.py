"""A saver on a fresh database, and a table worth racing for."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from tests.support.internals import from_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from langchain_core.runnables import RunnableConfig


BALANCE = "SELECT balance FROM account WHERE id = $1"
DEBIT = "UPDATE account SET balance = balance - 1 WHERE id = $1"
SET = "UPDATE account SET balance = $1 WHERE id = $2"
LOG = "INSERT INTO journal (line) VALUES ($1)"
SHARE = "SELECT 100 / balance FROM account WHERE id = $1"  # rejected while the balance is 0


class Bank:
    """Accounts 1 to 5 with a balance of 100 each, changed from outside any flow."""

    def __init__(self, saver: TransactionalSaver) -> None:
        self.saver = saver

    async def balance(self, account: int = 1) -> int:
        async with self.saver.transaction() as tx:
            return int(await tx.fetchval("SELECT balance FROM account WHERE id = $1", account))

    async def set(self, balance: int, account: int = 1) -> None:
        async with self.saver.transaction() as tx:
            await tx.execute("UPDATE account SET balance = $2 WHERE id = $1", account, balance)

    async def journal(self) -> list[str]:
        return [row["line"] for row in await self.do("SELECT line FROM journal ORDER BY seq")]

    async def waited_for(self, kind: str) -> None:
        """Wait until a statement waits for a lock of this kind, a condition on `pg_locks`; others may meanwhile."""
        sql = f"SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND {kind}"
        async with asyncio.timeout(20):
            while not await self.do(f"{sql} AND datname = current_database()"):
                pass

    async def lock_waited_for(self, unless: asyncio.Task[Any] | None = None) -> None:
        """Wait until a statement waits for a lock, or until the task has ended."""
        async with asyncio.timeout(20):
            while not (unless is not None and unless.done()):
                if await self.waiting_for_locks():
                    return

    async def waiting_for_locks(self) -> int:
        """How many sessions of this database wait for a lock; others may be those of other tests."""
        (row,) = await self.do(
            "SELECT count(DISTINCT pid) AS waiting FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE NOT granted AND datname = current_database()"
        )
        return int(row["waiting"])

    async def do(self, sql: str, *args: Any) -> Any:
        async with self.saver.transaction() as tx:
            return await tx.fetch(sql, *args)


@pytest.fixture
def hold_idle() -> float | str:
    """How long the saver holds an idle transaction; tests ask for another time with `parametrize`."""
    return 0.25


@pytest.fixture
async def saver(database_url: str, hold_idle: float | str) -> AsyncIterator[TransactionalSaver]:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=hold_idle) as saver:
        await make_bank(saver)
        yield saver


@pytest.fixture
def bank(saver: TransactionalSaver) -> Bank:
    return Bank(saver)


@pytest.fixture
def new_thread() -> Callable[[], RunnableConfig]:
    def make() -> RunnableConfig:
        return {"configurable": {"thread_id": str(uuid.uuid4())}}

    return make


@pytest.fixture
def thread(new_thread: Callable[[], RunnableConfig]) -> RunnableConfig:
    return new_thread()


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    for name in (*failpoints.NAMES, *failpoints.OUTSIDE_NAMES):
        failpoints.disarm(name)


@pytest.fixture
def sync_saver(database_url: str) -> Iterator[TransactionalSaver]:
    """A saver of a program without an event loop."""
    with TransactionalSaver.from_conn_string(database_url) as saver:
        from_thread(saver, make_bank(saver))
        yield saver


def writer(name: str, runs: list[str]) -> Any:
    """A node that notes its name in `runs`, reads, and stages a line."""

    async def node(state: Any) -> Any:
        runs.append(name)
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, name)
        return {"seen": [name]}

    node.__name__ = name
    return node


async def make_bank(saver: TransactionalSaver) -> None:
    async with saver.transaction() as tx:
        await tx.execute(
            "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0), note text);"
            "INSERT INTO account SELECT i, 100 FROM generate_series(1, 5) i;"
            "CREATE TABLE journal (seq serial PRIMARY KEY, line text NOT NULL)"
        )
