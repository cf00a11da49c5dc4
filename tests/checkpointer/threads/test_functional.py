"""`@entrypoint` and `@task`."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from langgraph.func import entrypoint, task

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.support.bank import BALANCE, LOG, Bank
from tests.support.graphs import steps_of
from tests.support.internals import from_thread, pinned
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


async def test_entrypoint_and_tasks_read_and_write_in_one_super_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    @task
    async def look(account: int) -> int:
        step = current_step()
        step.stage(LOG, f"task {account}")
        return int(await step.fetchval(BALANCE, account))

    @task
    def look_sync(account: int) -> int:
        step = current_step().sync
        step.stage(LOG, f"task {account}")
        return int(step.fetchval(BALANCE, account))

    @entrypoint(checkpointer=saver)
    async def flow(accounts: list[int]) -> list[int]:
        step = current_step()
        step.stage(LOG, "entry")
        seen = [int(await step.fetchval(BALANCE, 5))]
        seen += await asyncio.gather(*(look(i) for i in accounts))
        seen.append(await look_sync(4))
        return seen

    assert await flow.ainvoke([1, 2], thread) == [100, 100, 100, 100]
    assert sorted(await bank.journal()) == ["entry", "task 1", "task 2", "task 4"]
    steps = await steps_of(saver, thread)
    assert sum(s.reads for s in steps) == 4
    assert sum(s.writes for s in steps) == 4
    assert pinned(saver) == 0


async def test_tasks_called_by_tasks_belong_to_the_entrypoints_super_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    @task
    async def inner(account: int) -> int:
        current_step().stage(LOG, f"inner {account}")
        return int(await current_step().fetchval(BALANCE, account))

    @task
    async def outer(account: int) -> int:
        current_step().stage(LOG, f"outer {account}")
        return await inner(account)

    @entrypoint(checkpointer=saver)
    async def flow(account: int) -> int:
        return await outer(account)

    assert await transactional(flow).ainvoke(1, thread) == 100
    assert sorted(await bank.journal()) == ["inner 1", "outer 1"]
    assert pinned(saver) == 0


async def test_drifted_task_runs_again_and_the_finished_one_does_not(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 7, account=2)
    runs: Counter[str] = Counter()

    @task
    async def steady() -> int:
        runs["steady"] += 1
        step = current_step()
        step.stage(LOG, "steady")
        return int(await step.fetchval(BALANCE, 1))

    @task
    async def drifting() -> int:
        runs["drifting"] += 1
        return await race.decide()

    @entrypoint(checkpointer=saver)
    async def flow(given: str) -> list[int]:
        runs["flow"] += 1
        return [await steady(), await drifting()]

    assert await transactional(flow).ainvoke("go", thread) == [100, 7]
    assert runs["steady"] == 1
    assert runs["drifting"] == 2
    assert await bank.journal() == ["steady"]
    assert await bank.balance(2) == 6
    assert pinned(saver) == 0


async def test_entrypoint_decides_again_on_what_its_drifted_task_returns(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """What the entrypoint staged because of a stale answer must not be written."""
    race = Race(bank, 7)

    @task
    async def look() -> int:
        value = await race.read()
        current_step().stage("UPDATE account SET balance = balance WHERE id = 1")
        return value

    @entrypoint(checkpointer=saver)
    async def flow(given: str) -> str:
        verdict = "rich" if await look() > 50 else "poor"
        current_step().stage(LOG, verdict)
        return verdict

    assert await transactional(flow).ainvoke("go", thread) == "poor"
    assert await bank.journal() == ["poor"]


async def test_entrypoint_that_reads_nothing_itself_still_follows_its_drifted_task(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 7)

    @task
    async def look() -> int:
        return await race.decide()

    @entrypoint(checkpointer=saver)
    async def flow(given: str) -> int:
        return await look()

    assert await transactional(flow).ainvoke("go", thread) == 7
    assert await bank.balance() == 6


def test_entrypoint_without_a_loop(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    @task
    def look(account: int) -> int:
        current_step().sync.stage(LOG, f"task {account}")
        return int(current_step().sync.fetchval(BALANCE, account))

    @entrypoint(checkpointer=sync_saver)
    def flow(accounts: list[int]) -> list[int]:
        return [future.result() for future in [look(i) for i in accounts]]

    assert flow.invoke([1, 2], thread, durability="sync") == [100, 100]
    assert sorted(from_thread(sync_saver, Bank(sync_saver).journal())) == ["task 1", "task 2"]
    assert pinned(sync_saver) == 0
