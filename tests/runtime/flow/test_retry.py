"""How often a conflicting super-step is run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import (
    ConflictExhausted,
)
from superstep.runtime.flow.transactional import Settings
from tests.support.bank import SET
from tests.support.graphs import chain, steps_of
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_conflicts_are_bounded_and_the_thread_stays_usable(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 101, 102, 103, 104)

    async def node(state: Any) -> Any:
        await race.read()
        current_step().stage(SET, 0, 1)

    flow = transactional(chain(saver, node), settings=Settings(max_attempts=4, first_pause=0.001))
    with pytest.raises(ConflictExhausted) as caught:
        await flow.ainvoke({}, thread)
    assert (caught.value.attempts, caught.value.tasks) == (4, ("node",))
    assert await bank.balance() == 104
    report = await flow.areport(thread)
    assert (report.status, report.error["type"]) == ("failed", "ConflictExhausted")
    await flow.ainvoke(None, thread)
    assert await bank.balance() == 0
    (step,) = await steps_of(saver, thread)
    assert step.attempts == 5


async def test_a_mismatch_that_stays_is_given_up_early(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    runs = 0

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        current_step().stage("UPDATE account SET balance = 1 WHERE id = 77", expect_rows=1)

    with pytest.raises(ConflictExhausted):
        await transactional(chain(saver, node), settings=Settings(max_mismatches=3)).ainvoke({}, thread)
    assert runs == 3
