"""A step names what its tasks used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from tests.support.bank import BALANCE
from tests.support.graphs import fan
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_a_step_names_what_its_tasks_used(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def reading(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        for name in ("verify@3", "plan@2", "verify@3"):
            step.uses(name)

    def without_reads(state: Any) -> Any:
        current_step().sync.uses("tone@1")
        current_step().sync.uses("plan@2")

    async def nothing(state: Any) -> Any:
        return {}

    for nodes, names in (
        ((reading, without_reads), ["plan@2", "tone@1", "verify@3"]),
        ((without_reads,), ["plan@2", "tone@1"]),
        ((nothing,), []),
    ):
        flow = transactional(fan(saver, *nodes))
        await flow.ainvoke({"seen": []}, thread)
        assert [step["prompts"] for step in (await flow.areport(thread)).to_dict()["steps"]] == [names]


async def test_only_what_counts_is_named(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    """Of a task that ran again because its facts had changed, what it used the last time."""
    race = Race(bank, 80)

    async def decide(state: Any) -> Any:
        balance = await race.decide()
        current_step().uses(f"plan@{balance}")

    async def sibling(state: Any) -> Any:
        current_step().uses("tone@1")

    flow = transactional(fan(saver, decide, sibling))
    await flow.ainvoke({"seen": []}, thread)
    assert race.seen == [100, 80]
    assert [step.prompts for step in (await flow.areport(thread)).steps] == [["plan@80", "tone@1"]]


async def test_what_a_saved_result_used_is_still_known_after_a_crash(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    broken = True
    runs = []

    async def reading(state: Any) -> Any:
        runs.append(1)
        await current_step().fetchval(BALANCE, 1)
        current_step().uses("plan@2")

    async def without_reads(state: Any) -> Any:
        runs.append(2)
        current_step().uses("tone@1")

    async def failing(state: Any) -> Any:
        current_step().uses("never@1" if broken else "again@1")
        while broken and len(await bank.do("SELECT 1 FROM runtime.task_effect")) < 2:
            pass  # until the others' results are saved, effects included
        if broken:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await transactional(fan(saver, reading, without_reads, failing)).ainvoke({"seen": []}, thread)
    broken = False
    async with TransactionalSaver.from_conn_string(database_url) as restarted:
        flow = transactional(fan(restarted, reading, without_reads, failing))
        await flow.ainvoke(None, thread)
        assert sorted(runs) == [1, 2]
        assert [step.prompts for step in (await flow.areport(thread)).steps] == [["again@1", "plan@2", "tone@1"]]
